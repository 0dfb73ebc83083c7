package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
)

// An app is all that a command can use of the world around it.
type app struct {
	getenv func(string) string
	stdin  io.Reader
	stdout *output // results
	stderr *output // everything else

	// dial connects to receivers and to the API. If it's nil, a [net.Dialer] does.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{getenv: getenv, stdin: stdin, stdout: &output{w: stdout}, stderr: &output{w: stderr}}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	err := a.dispatch(ctx, args)
	if err == nil {
		err = a.stdout.failure()
	}
	return a.report(err)
}

// dispatch finds the command in args and runs it.
func (a *app) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("no command given", "grantexhook help")
	}
	c, rest, ok := find(commands, args)
	if !ok {
		return a.unknown(args)
	}
	fs, act := c.flags(a, io.Discard)
	positional, err := parseFlags(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return c.help(a.stdout)
	case err != nil:
		return badFlag(c, err)
	case len(positional) < c.min || c.max >= 0 && len(positional) > c.max:
		return usageError("usage is 'grantexhook "+c.usage()+"'", "grantexhook help "+c.name)
	}
	return act(ctx, positional)
}

// unknown handles args that don't name a command: a request for help, the first
// word of several commands, or a mistake.
func (a *app) unknown(args []string) error {
	if isHelp(args[0]) {
		return a.help(args[1:])
	}
	group := under(commands, args[0])
	switch {
	case len(group) == 0:
		return usageError(fmt.Sprintf("unknown command %q", args[0]), suggest(args[0], "grantexhook help lists the commands"))
	case len(args) == 1:
		return usageError(args[0]+" needs a subcommand: "+lastWords(group), "grantexhook help "+args[0])
	case isHelp(args[1]):
		return a.help(args[:1])
	}
	name := args[0] + " " + args[1]
	return usageError(fmt.Sprintf("unknown command %q", name), suggest(name, "grantexhook help "+args[0]))
}

func isHelp(arg string) bool {
	return slices.Contains([]string{"help", "-h", "-help", "--help"}, arg)
}

// parseFlags accepts flags before, between and after the other arguments, which it
// returns. It doesn't look for flags after "--".
func parseFlags(fs *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if parsed := len(args) - len(rest); len(rest) == 0 || parsed > 0 && args[parsed-1] == "--" {
			return append(positional, rest...), nil
		}
		positional, args = append(positional, rest[0]), rest[1:]
	}
}

func badFlag(c command, err error) error {
	for _, name := range []string{"secret", "api-key"} {
		if strings.HasSuffix(err.Error(), "not defined: -"+name) {
			return usageError("there is no flag -"+name+", since everyone on this machine can see arguments",
				"use -"+name+"-file FILE, or set "+variables[name]+" in the environment")
		}
	}
	return usageError(err.Error(), "grantexhook help "+c.name)
}

// maxInput bounds what is read from a file or from standard input. The largest
// body that Grantex can make is a sixth of it.
const maxInput = 1 << 20

// read returns the content of a file, or of standard input if file is "-".
func (a *app) read(file string) ([]byte, error) {
	if file != "-" {
		return readFile(file, maxInput)
	}
	if isTerminal(a.stdin) {
		a.note("reading from the terminal until Ctrl-D (on Windows, Ctrl-Z and Enter)")
	}
	return readUpTo(maxInput, a.stdin, "standard input")
}

func readFile(file string, limit int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usageError(err.Error(), "")
	}
	defer f.Close()
	return readUpTo(limit, f, file)
}

func readUpTo(limit int, in io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	switch {
	case err != nil:
		return nil, usageError(err.Error(), "")
	case len(text) > limit:
		return nil, usageError(fmt.Sprintf("%s is larger than %d bytes", name, limit), "is it the right file?")
	}
	return text, nil
}
