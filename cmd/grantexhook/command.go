package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
)

// An action is a command whose flags have been parsed.
type action func(ctx context.Context, args []string) error

// A command is named by the first words of the arguments.
type command struct {
	name     string // of one or two words
	args     string // after the flags, for help
	min, max int    // how many args; no limit if max is negative
	about    string
	examples string
	setup    func(*app, *flag.FlagSet) action
}

var commands = []command{
	listenCommand,
	sendCommand,
	forwardCommand,
	verifyCommand,
	endpointsListCommand,
	endpointsCreateCommand,
	endpointsDeleteCommand,
	endpointsRotateCommand,
	deliveriesCommand,
	grantsCommand,
	grantCommand,
	versionCommand,
}

// find returns the command that args begin with, and the arguments after it.
func find(all []command, args []string) (c command, rest []string, ok bool) {
	for _, c := range all {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return c, args[len(words):], true
		}
	}
	return command{}, nil, false
}

// under returns the commands of two words that begin with this one.
func under(all []command, word string) (group []command) {
	for _, c := range all {
		if strings.HasPrefix(c.name, word+" ") {
			group = append(group, c)
		}
	}
	return group
}

func lastWords(group []command) string {
	var words []string
	for _, c := range group {
		words = append(words, c.name[strings.LastIndex(c.name, " ")+1:])
	}
	return strings.Join(words, ", ")
}

func (c command) usage() string {
	text := c.name
	if c.hasFlags() {
		text += " [flags]"
	}
	if c.args != "" {
		text += " " + c.args
	}
	return text
}

func (c command) hasFlags() (has bool) {
	fs, _ := c.flags(&app{}, io.Discard)
	fs.VisitAll(func(*flag.Flag) { has = true })
	return has
}

// flags returns the flags of c, which print to w, and what c does with them.
func (c command) flags(a *app, w io.Writer) (*flag.FlagSet, action) {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(w)
	return fs, c.setup(a, fs)
}

// help shows how to use one command.
func (c command) help(w io.Writer) error {
	fmt.Fprintf(w, "usage: grantexhook %s\n\n%s\n", c.usage(), c.about)
	if c.hasFlags() {
		fmt.Fprint(w, "\nflags:\n")
		fs, _ := c.flags(&app{}, w)
		fs.PrintDefaults()
	}
	if c.examples != "" {
		fmt.Fprintf(w, "\nexamples:\n%s\n", indent(c.examples))
	}
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

const overview = `usage: grantexhook COMMAND [flags] [arguments]

Grantex webhooks in local development: receive, send, forward and verify them.

commands:
`

const environment = `
environment:
  GRANTEX_WEBHOOK_SECRET  the endpoint's secret; or GRANTEX_WEBHOOK_SECRET_FILE, a file that contains it
  GRANTEX_API_KEY         the account's API key; or GRANTEX_API_KEY_FILE
  GRANTEX_URL             the API's address, https://api.grantex.dev if unset

examples:
  grantexhook listen
  grantexhook send grant.created http://127.0.0.1:8080/webhooks/grantex
  grantexhook forward http://127.0.0.1:8080/webhooks/grantex

'grantexhook help COMMAND' shows the flags and examples of a command.
Exit status: 0 success, 1 failure or rejection, 2 usage error.
`

// help shows how to use the command that words name, or lists the commands.
func (a *app) help(words []string) error {
	all := commands
	if len(words) > 0 {
		if c, _, ok := find(all, words); ok {
			return c.help(a.stdout)
		}
		if all = under(all, words[0]); len(all) == 0 {
			return a.unknown(words)
		}
	}
	if len(words) == 0 {
		fmt.Fprint(a.stdout, overview)
		defer fmt.Fprint(a.stdout, environment)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, c := range all {
		first, _, _ := strings.Cut(c.about, "\n")
		fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), first)
	}
	return t.Flush()
}

// suggest returns a hint at a command whose name begins with what was typed, or
// otherwise if there isn't one.
func suggest(typed, otherwise string) string {
	for _, c := range commands {
		if typed = strings.TrimLeft(typed, "-"); typed != "" && strings.HasPrefix(c.name, typed) {
			return "did you mean 'grantexhook " + c.name + "'?"
		}
	}
	return otherwise
}

var versionCommand = command{
	name:  "version",
	about: "Print the version of this program.",
	setup: func(a *app, _ *flag.FlagSet) action {
		return func(context.Context, []string) error {
			info, _ := debug.ReadBuildInfo()
			fmt.Fprintf(a.stdout, "grantexhook %s %s %s/%s\n", version(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		}
	},
}

func version(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
