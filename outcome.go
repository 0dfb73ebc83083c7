package grantexhook

import (
	"io"
	"log/slog"
	"net/http"
)

// The outcomes of a dispatch, as passed to [Dispatcher].Trace, with the statuses of
// [Dispatcher.ServeHTTP].
const (
	OutcomeHandled     = "handled"      // 200
	OutcomeDuplicate   = "duplicate"    // 200: the event was handled before
	OutcomeIgnored     = "ignored"      // 200: its type has no handler
	OutcomeInFlight    = "in_flight"    // 409: another attempt is being handled
	OutcomeMalformed   = "malformed"    // 422: it isn't an event, or its data doesn't fit the handler's type
	OutcomeFailed      = "failed"       // 500: the handler returned an error
	OutcomePanicked    = "panicked"     // 500: the handler panicked, or did not return
	OutcomeTimedOut    = "timed_out"    // 503: the handler returned an error after its deadline
	OutcomeStoreFailed = "store_failed" // 503: the Store couldn't claim the event
)

// outcomes has the status and the log level of each outcome. The statuses 204, 205
// and 304 must not appear here, because they crash the sender.
var outcomes = map[string]struct {
	status int
	level  slog.Level
}{
	OutcomeHandled:     {http.StatusOK, slog.LevelDebug},
	OutcomeDuplicate:   {http.StatusOK, slog.LevelDebug},
	OutcomeIgnored:     {http.StatusOK, slog.LevelDebug},
	OutcomeInFlight:    {http.StatusConflict, slog.LevelInfo},
	OutcomeMalformed:   {http.StatusUnprocessableEntity, slog.LevelError},
	OutcomeFailed:      {http.StatusInternalServerError, slog.LevelError},
	OutcomePanicked:    {http.StatusInternalServerError, slog.LevelError},
	OutcomeTimedOut:    {http.StatusServiceUnavailable, slog.LevelError},
	OutcomeStoreFailed: {http.StatusServiceUnavailable, slog.LevelError},
}

func (d *Dispatcher) report(a attempt, level slog.Level) {
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

func answer(w http.ResponseWriter, outcome string, status int) {
	if status != http.StatusOK {
		http.Error(w, outcome, status)
		return
	}
	io.WriteString(w, outcome) // without w.Header, which net/http would copy; that costs as much as verifying
}
