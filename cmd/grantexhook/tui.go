package main

// The conventions of this tool, which every command follows.
//
//   - Standard output gets only results, since it goes to pipes and files. With
//     -json each line of it is a JSON value. Everything else goes to standard error.
//   - An error is one line, "grantexhook: " and what is wrong. What to do about it
//     follows in a second line, after "hint: ". A warning begins with "WARNING: ".
//     A progress report has no prefix.
//   - These lines don't begin with a capital, and don't end with a full stop. Help is
//     prose and does both.
//   - The exit status is 0 for success, 1 if something failed or was rejected, and 2
//     for a usage error. An interrupt ends listen and forward with success, and every
//     other command with a failure.
//   - Text from elsewhere (an event, a response, the API) may have characters that
//     don't print and that a terminal would act on. A result quotes such text as Go
//     does, an error replaces the characters with spaces, and JSON escapes them. Only
//     listen -json prints it byte for byte, unless standard output is a terminal.
//     Bytes that aren't UTF-8 count as such characters. A long error is truncated.
//   - A secret is printed only when it's new: by endpoints create and rotate, and by
//     listen if it generates one.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// A failure is an error with its exit status and a hint.
type failure struct {
	error
	hint   string // what to do about it
	status int
}

func (f *failure) Unwrap() error { return f.error }

func usageError(text, hint string) error {
	return &failure{errors.New(text), hint, exitUsage}
}

func failed(err error, hint string) error {
	return &failure{err, hint, exitFailed}
}

// errVerdict ends a command with status 1 if its result already shows what is
// wrong.
var errVerdict = errors.New("wrong")

// report prints an error and returns the exit status.
func (a *app) report(err error) int {
	status, hint := exitFailed, apiHint(err)
	if f, ok := errors.AsType[*failure](err); ok {
		status, hint = f.status, f.hint
	}
	switch {
	case err == nil:
		return exitDone
	case err == errVerdict:
		return exitFailed
	}
	a.note("grantexhook: %s", oneLine(err.Error()))
	if hint != "" {
		a.note("hint: %s", hint)
	}
	return status
}

// note prints a line to standard error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// terms replaces the library's terms with this tool's.
var terms = strings.NewReplacer("grantexhook: ", "", "grantexapi: ", "", "Client.BaseURL", "GRANTEX_URL", "Client.APIKey", "GRANTEX_API_KEY")

// oneLine makes the text of an error safe for a terminal.
func oneLine(text string) string {
	const limit = 1000 // more than an error needs, unless it quotes a hostile response
	text = strings.ReplaceAll(strings.TrimSpace(terms.Replace(text)), "\n", "; ")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if isStrange(r) {
			return ' '
		}
		return r
	}, text)
}

func isStrange(r rune) bool { return !unicode.IsPrint(r) }

// printable quotes text if it has characters that don't print.
func printable(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, isStrange) {
		return strconv.Quote(text)
	}
	return text
}

// writeJSON writes v, which must have a JSON form, on one line.
func writeJSON(w io.Writer, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	w.Write(append(escaped(bytes.TrimSpace(b.Bytes())), '\n'))
}

// escaped returns JSON with escapes for the characters that don't print. They must
// be inside its strings.
func escaped(text []byte) []byte {
	if utf8.Valid(text) && !bytes.ContainsFunc(text, isStrange) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.Bytes()
}

// An output is a stream that goroutines may share. It keeps the first error.
type output struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.w.Write(p)
	if o.err == nil && err != nil {
		o.err = err
	}
	return n, err
}

// failure returns the first error of a Write.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return fmt.Errorf("writing the result: %w", o.err)
}

// isTerminal reports whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
