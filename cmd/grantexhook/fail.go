package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"grantex.dev/grantexhook/grantexapi"
)

// A failure is an error with the exit status and the hint that belong to it.
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

// errVerdict ends a command with status 1 whose result says already what is
// wrong.
var errVerdict = errors.New("wrong")

// report prints an error, on one line and without the names of packages, and
// returns the exit status.
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

// note prints a line that is no result.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// oneLine puts the library's errors in the terms of this program, joins their
// lines, and leaves nothing that a terminal would act on.
func oneLine(text string) string {
	text = strings.NewReplacer("grantexhook: ", "", "grantexapi: ", "", "Client.BaseURL", "GRANTEX_URL", "Client.APIKey", "GRANTEX_API_KEY").Replace(text)
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// apiHint says what to do about an error of the API.
func apiHint(err error) string {
	if errors.Is(err, grantexapi.ErrMaybeCreated) {
		return "grantexhook endpoints list shows it if it was created; its secret is lost, so delete it before creating another"
	}
	refusal, ok := errors.AsType[*grantexapi.Error](err)
	if !ok {
		return ""
	}
	switch refusal.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "check GRANTEX_API_KEY, and GRANTEX_URL if it is set"
	case http.StatusPaymentRequired:
		return "grantexhook endpoints delete ID makes room for another"
	case http.StatusNotFound:
		return "grantexhook endpoints list shows the IDs; check GRANTEX_URL if it is set"
	case http.StatusTooManyRequests:
		return fmt.Sprintf("try again in %v", refusal.RetryAfter)
	}
	return ""
}
