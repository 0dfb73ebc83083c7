package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A goCommand runs the go command with a module proxy in a directory. It finds
// third-party modules where it usually does.
type goCommand struct {
	env   []string
	cache string // GOMODCACHE
}

func newGoCommand(proxy, root string) (*goCommand, error) {
	text, err := output("go", "env", "GOMODCACHE", "GONOSUMDB", "GOPROXY")
	if err != nil {
		return nil, err
	}
	settings := strings.Split(text, "\n")
	address := url.URL{Scheme: "file", Path: "/" + strings.TrimPrefix(filepath.ToSlash(proxy), "/")}
	return &goCommand{cache: settings[0], env: append(os.Environ(),
		"GOPROXY="+address.String()+","+settings[2],
		"GONOSUMDB="+strings.Trim(settings[1]+","+root, ","),
		"GONOPROXY=",
		"GOPRIVATE=", // would bypass the proxy
		"GOFLAGS=-mod=mod",
		"GOWORK=off",
	)}, nil
}

// runEach runs commands one after another. Their arguments can't have spaces.
func (g *goCommand) runEach(dir string, commands ...string) error {
	for _, c := range commands {
		if err := g.run(dir, strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

func (g *goCommand) run(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, g.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// forget removes the modules from the module cache, where they're no longer needed.
func (g *goCommand) forget(modules []module, version string) {
	for _, m := range modules {
		tree := filepath.Join(g.cache, filepath.FromSlash(m.path)+"@"+version)
		filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o777) // the cache is read-only
			}
			return err
		})
		os.RemoveAll(tree)
		files, _ := filepath.Glob(filepath.Join(g.cache, "cache", "download", filepath.FromSlash(m.path), "@v", version+".*"))
		for _, file := range files {
			os.Remove(file)
		}
	}
}

// output returns what a command prints to its standard output, trimmed.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
