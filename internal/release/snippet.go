package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A snippet is a complete Go file in a page.
type snippet struct {
	page, code string
	name       string // of its package
	test       bool
}

var (
	goBlock       = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	packageClause = regexp.MustCompile(`(?m)^package \w+$`)
)

func snippetsOf(page string) (snippets []snippet, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	for _, block := range goBlock.FindAllStringSubmatch(string(text), -1) {
		if !packageClause.MatchString(block[1]) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), page, block[1], parser.ImportsOnly)
		if err != nil {
			return nil, fmt.Errorf("a Go file in %w", err)
		}
		s := snippet{page: page, code: block[1], name: file.Name.Name}
		for _, imported := range file.Imports {
			s.test = s.test || imported.Path.Value == `"testing"`
		}
		snippets = append(snippets, s)
	}
	return snippets, nil
}

// findSnippets returns the snippets of all pages.
func findSnippets(root string) (all []snippet, err error) {
	return all, filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(file) != ".md":
			return nil
		}
		snippets, err := snippetsOf(file)
		all = append(all, snippets...)
		return err
	})
}

// runSnippets builds the snippets in a project with the modules, and runs those that
// are tests. A test goes into the directory of the snippet before it if that's the
// package it tests. Third-party modules have the versions that internal/integration
// tests.
func runSnippets(g *goCommand, dir string, modules []module, version string) error {
	snippets, err := findSnippets(".")
	if err != nil {
		return err
	}
	if len(snippets) == 0 {
		return errors.New("no page has a Go file between ```go and ```")
	}
	if err := writeProject(dir, snippets); err != nil {
		return err
	}
	edit := []string{"mod", "edit", "-module=example.com/project"}
	for _, m := range modules {
		edit = append(edit, "-dropreplace="+m.path, "-require="+m.path+"@"+version)
	}
	if err := g.run(dir, edit...); err != nil {
		return err
	}
	if err := g.runEach(dir, "build ./...", "test -count=1 ./..."); err != nil {
		return fmt.Errorf("the Go files in the pages: %w", err)
	}
	for _, s := range snippets {
		fmt.Printf("ok   package %s in %s\n", s.name, filepath.ToSlash(s.page))
	}
	return nil
}

func writeProject(dir string, snippets []snippet) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("internal", "integration", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			return err
		}
	}
	var last snippet
	var folder string
	for i, s := range snippets {
		name := "snippet.go"
		if s.test {
			name = "snippet_test.go"
		}
		if !s.test || last.test || last.page != s.page || strings.TrimSuffix(s.name, "_test") != last.name {
			folder = filepath.Join(dir, fmt.Sprint("snippet", i))
		}
		last = s
		err := errors.Join(os.MkdirAll(folder, 0o777), os.WriteFile(filepath.Join(folder, name), []byte(s.code), 0o666))
		if err != nil {
			return err
		}
	}
	return nil
}
