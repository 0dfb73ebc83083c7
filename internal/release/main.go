// Command release checks that a release of this tree would work for its users. It
// publishes every module to a module proxy, which is a temporary directory, and uses
// each from an empty project.
package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run() error {
	modules, err := findModules(".")
	if err != nil {
		return err
	}
	version, err := versionOf(modules)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "grantexhook-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, err := newGoCommand(filepath.Join(dir, "proxy"), modules[0].path)
	if err != nil {
		return err
	}
	defer g.forget(modules, version)
	for _, m := range modules {
		if err := m.publish(filepath.Join(dir, "proxy"), version); err != nil {
			return fmt.Errorf("publishing %s: %w", m.path, err)
		}
	}
	for _, m := range modules {
		if err := g.use(filepath.Join(dir, path.Base(m.path)), m.path, version); err != nil {
			return fmt.Errorf("using %s from an empty project: %w", m.path, err)
		}
		fmt.Println("ok  ", m.path, "from an empty project")
	}
	return errors.Join(
		installTool(g, filepath.Join(dir, "bin"), modules[0].path, version),
		runSnippets(g, filepath.Join(dir, "snippets"), modules, version),
	)
}

// use builds all packages of a module in a new project that requires nothing else.
func (g *goCommand) use(dir, module, version string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return g.runEach(dir,
		"mod init example.com/project",
		"get "+module+"@"+version,
		"build "+module+"/...",
	)
}

// installTool installs the tool as its README says, and checks that it knows its
// version.
func installTool(g *goCommand, bin, root, version string) error {
	tool := root + "/cmd/grantexhook@" + version
	g.env = append(g.env, "GOBIN="+bin)
	if err := g.run(".", "install", tool); err != nil {
		return err
	}
	out, err := output(filepath.Join(bin, "grantexhook"), "version")
	if err != nil {
		return fmt.Errorf("running %s: %w", tool, err)
	}
	if !strings.Contains(out, version) {
		return fmt.Errorf("%s reports another version: %s", tool, out)
	}
	fmt.Print("ok   go install ", tool, "\n")
	return nil
}
