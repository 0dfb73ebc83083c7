package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A module is a Go module that gets a tag at a release.
type module struct {
	path  string            // as in its go.mod
	files map[string]string // their paths in the tree, by their paths in the module
}

// findModules returns the modules below a directory, the root first. Those in
// internal and examples are never published.
func findModules(root string) (modules []module, err error) {
	mods, err := filepath.Glob(filepath.Join(root, "*", "go.mod"))
	if err != nil {
		return nil, err
	}
	for _, mod := range append([]string{filepath.Join(root, "go.mod")}, mods...) {
		m, err := newModule(filepath.Dir(mod), filepath.Join(root, "LICENSE"))
		if err != nil {
			return nil, err
		}
		modules = append(modules, m)
	}
	return modules, nil
}

// newModule returns a module with the files that the go command would find at a tag.
// These include the repository's license if the module has no license.
func newModule(dir, license string) (module, error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return module{}, err
	}
	line, _, _ := strings.Cut(string(mod), "\n")
	m := module{path: strings.TrimSpace(strings.TrimPrefix(line, "module ")), files: map[string]string{"LICENSE": license}}
	return m, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || file == dir:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") || exists(filepath.Join(file, "go.mod"))):
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		name, err := filepath.Rel(dir, file)
		m.files[filepath.ToSlash(name)] = file
		return err
	})
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func (m module) names() []string {
	names := make([]string, 0, len(m.files))
	for name := range m.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// versionOf returns a version that no other tree has, since the go command caches what
// it finds.
func versionOf(modules []module) (string, error) {
	hash := sha256.New()
	for _, m := range modules {
		for _, name := range m.names() {
			content, err := os.ReadFile(m.files[name])
			if err != nil {
				return "", err
			}
			fmt.Fprintf(hash, "%q %q %x\n", m.path, name, sha256.Sum256(content))
		}
	}
	return fmt.Sprintf("v0.0.0-tree%x", hash.Sum(nil)[:6]), nil
}

// publish writes the files that a module proxy serves.
func (m module) publish(proxy, version string) error {
	content, err := m.zip(m.path + "@" + version)
	if err != nil {
		return err
	}
	mod, err := os.ReadFile(m.files["go.mod"])
	if err != nil {
		return err
	}
	dir := filepath.Join(proxy, filepath.FromSlash(m.path), "@v")
	return errors.Join(
		os.MkdirAll(dir, 0o777),
		os.WriteFile(filepath.Join(dir, "list"), []byte(version+"\n"), 0o666),
		os.WriteFile(filepath.Join(dir, version+".info"), fmt.Appendf(nil, `{"Version":%q}`, version), 0o666),
		os.WriteFile(filepath.Join(dir, version+".mod"), mod, 0o666),
		os.WriteFile(filepath.Join(dir, version+".zip"), content, 0o666),
	)
}

func (m module) zip(prefix string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range m.names() {
		content, err := os.ReadFile(m.files[name])
		if err != nil {
			return nil, err
		}
		w, err := z.Create(path.Join(prefix, name))
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}
