package grantexhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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
	OutcomePanicked    = "panicked"     // 500: the handler panicked
	OutcomeTimedOut    = "timed_out"    // 503: it returned an error after its deadline
	OutcomeStoreFailed = "store_failed" // 503
)

func (d *Dispatcher) report(ctx context.Context, t task, outcome string, err error) {
	level := slog.LevelError
	switch {
	case err == nil:
		level = slog.LevelDebug
	case outcome == OutcomeInFlight:
		level = slog.LevelInfo
	}
	log := d.log()
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("event", t.id), slog.String("type", t.eventType)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	if p, ok := err.(*PanicError); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	log.LogAttrs(ctx, level, "grantexhook: event "+outcome, attrs...)
}

func answer(w http.ResponseWriter, outcome string) {
	status := http.StatusInternalServerError
	switch outcome {
	case OutcomeHandled, OutcomeDuplicate, OutcomeIgnored:
		status = http.StatusOK
	case OutcomeInFlight:
		status = http.StatusConflict
	case OutcomeMalformed:
		status = http.StatusUnprocessableEntity
	case OutcomeTimedOut, OutcomeStoreFailed:
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, outcome)
}

// A PanicError is the error of a dispatch whose handler panicked.
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
