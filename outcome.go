package grantexhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// The outcomes of a dispatch that [Dispatcher].Trace is told, with the status
// that [Dispatcher.ServeHTTP] answers.
const (
	OutcomeHandled     = "handled"      // 200
	OutcomeDuplicate   = "duplicate"    // 200: it was handled before
	OutcomeIgnored     = "ignored"      // 200: nobody handles the type
	OutcomeInFlight    = "in_flight"    // 409: another attempt is being handled
	OutcomeMalformed   = "malformed"    // 422
	OutcomeFailed      = "failed"       // 500: the handler returned an error
	OutcomePanicked    = "panicked"     // 500: the handler panicked, or did not return
	OutcomeTimedOut    = "timed_out"    // 503: it returned an error after its deadline
	OutcomeStoreFailed = "store_failed" // 503
)

func (d *Dispatcher) report(a attempt) {
	level := slog.LevelError
	switch {
	case a.err == nil:
		level = slog.LevelDebug
	case a.outcome == OutcomeInFlight:
		level = slog.LevelInfo
	}
	log := d.log()
	if !log.Enabled(a.ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("event", a.id), slog.String("type", a.eventType)}
	if a.err != nil {
		attrs = append(attrs, slog.Any("error", a.err))
	}
	if p, ok := a.err.(*PanicError); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	log.LogAttrs(a.ctx, level, "grantexhook: event "+a.outcome, attrs...)
}

func answer(w http.ResponseWriter, outcome string) {
	switch outcome {
	case OutcomeHandled, OutcomeDuplicate, OutcomeIgnored:
		io.WriteString(w, outcome) // without w.Header: net/http would then copy it, which costs as much as verifying
	case OutcomeInFlight:
		http.Error(w, outcome, http.StatusConflict)
	case OutcomeMalformed:
		http.Error(w, outcome, http.StatusUnprocessableEntity)
	case OutcomeTimedOut, OutcomeStoreFailed:
		http.Error(w, outcome, http.StatusServiceUnavailable)
	default:
		http.Error(w, outcome, http.StatusInternalServerError)
	}
}

// A PanicError is the error of a dispatch whose handler panicked, or whose
// payload did while it was decoded.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine, as [debug.Stack] returns it
}

// Error returns a text with the value but without the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("grantexhook: handler panicked: %v", e.Value)
}

// Unwrap returns the value if it is an error, and otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errNoReturn is what Trace is told of a handler that ended its goroutine, or
// that goes on panicking.
var errNoReturn = errors.New("grantexhook: handler did not return")

// run tells the outcome of a handler.
func run(ctx context.Context, f func(context.Context) error) (outcome string, err error) {
	outcome, err = OutcomePanicked, errNoReturn
	defer catch(&err)
	err = f(ctx)
	switch {
	case err == nil:
		return OutcomeHandled, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return OutcomeTimedOut, err
	default:
		return OutcomeFailed, err
	}
}

// catch, deferred, makes a panic an error.
func catch(err *error) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v) // net/http knows it and keeps silent
	default:
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
