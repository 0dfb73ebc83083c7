package riverinbox

import (
	"context"
	"log/slog"

	"github.com/riverqueue/river"
)

// A worker hands events to a Dispatcher.
type worker struct {
	river.WorkerDefaults[event]
	dispatch func(context.Context, []byte) error
	log      *slog.Logger
}

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[event]) error {
	err := w.dispatch(ctx, job.Args.Body)
	if err != nil && job.Attempt >= job.MaxAttempts {
		w.log.ErrorContext(ctx, "riverinbox: event given up", "event", job.Args.ID, "type", job.Args.Type, "attempts", job.Attempt, "error", err)
	}
	return err
}
