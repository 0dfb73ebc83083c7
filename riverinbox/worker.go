package riverinbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"
)

// A worker dispatches stored events.
type worker struct {
	river.WorkerDefaults[event]
	dispatch func(context.Context, []byte) error
	log      *slog.Logger
}

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[event]) error {
	err := w.run(ctx, job.Args)
	if err == nil {
		return nil
	}
	if malformed(err) {
		w.reportMalformed(ctx, job, err)
	}
	if job.Attempt >= job.MaxAttempts && !comesBack(ctx, err) {
		w.givenUp(ctx, job, err)
	}
	return storable{err}
}

// malformed reports whether err means that the event's data doesn't fit the
// handler's type. It looks for a method, since this package doesn't import
// grantexhook.
func malformed(err error) bool {
	var m interface{ Malformed() bool }
	return errors.As(err, &m) && m.Malformed()
}

// malformedKey in the metadata of a job means that its malformed event was logged.
const malformedKey = "grantexhook_malformed"

// reportMalformed logs a job's first malformed attempt at level Error, since retries
// don't help until the handler's type changes. Later ones are logged like any other
// failure.
func (w *worker) reportMalformed(ctx context.Context, job *river.Job[event], err error) {
	var logged map[string]any
	if json.Unmarshal(job.Metadata, &logged) == nil && logged[malformedKey] != nil {
		return
	}
	w.log.ErrorContext(ctx, "riverinbox: event malformed; change the handler's type, or cancel the job",
		"event", job.Args.ID, "type", job.Args.Type, "job", job.ID, "error", err)
	river.MetadataSet(ctx, malformedKey, true) // if this fails, the next attempt is logged again
}

// run dispatches in another goroutine, since River would wait forever for a handler
// that calls runtime.Goexit.
func (w *worker) run(ctx context.Context, e event) error {
	ended := make(chan error, 1)
	go func() {
		err := errors.New("riverinbox: the handler ended its goroutine")
		defer func() {
			if v := recover(); v != nil {
				w.log.ErrorContext(ctx, "riverinbox: dispatch panicked", "event", e.ID, "type", e.Type, "stack", string(debug.Stack()))
				err = fmt.Errorf("riverinbox: dispatch panicked: %v", v)
			}
			ended <- err
		}()
		err = w.dispatch(ctx, e.Body)
	}()
	return <-ended
}

// comesBack reports whether River won't count the attempt, because Stop interrupted it
// or the handler asked for a later one.
func comesBack(ctx context.Context, err error) bool {
	var snooze *river.JobSnoozeError
	return ctx.Err() == context.Canceled && errors.Is(err, context.Canceled) || errors.As(err, &snooze)
}

// NextRetry implements [river.Worker]. After the last attempt, River only calls it if
// the process died in that attempt. River then gives up on the event without logging it.
func (w *worker) NextRetry(job *river.Job[event]) time.Time {
	if job.Attempt >= job.MaxAttempts {
		w.givenUp(context.Background(), job, errors.New("the last attempt didn't end"))
	}
	return time.Time{} // means River's schedule
}

func (w *worker) givenUp(ctx context.Context, job *river.Job[event], err error) {
	w.log.ErrorContext(ctx, "riverinbox: event given up", "event", job.Args.ID, "type", job.Args.Type, "attempts", job.Attempt, "error", err)
}

// A storable error has a text that PostgreSQL can store. PostgreSQL rejects a NUL in
// JSON. River would retry that write forever, together with the outcomes of all other
// events.
type storable struct{ error }

func (e storable) Error() string { return withoutNUL(e.error.Error()) }
func (e storable) Unwrap() error { return e.error }
