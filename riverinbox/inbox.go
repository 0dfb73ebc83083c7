package riverinbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivermigrate"
)

// DefaultTimeout is how long an attempt at an event may take, and DefaultWorkers
// how many events a process handles at once, if [Options] do not say otherwise.
const (
	DefaultTimeout = time.Minute
	DefaultWorkers = 10
)

// queue is the inbox's own, so that it never works what others put into River.
const queue = "grantexhook"

// rescueMargin is how much longer than its timeout an attempt may be silent
// before it is taken for dead: a handler that keeps to its deadline needs some of
// it to return, and the outcome to be written.
const rescueMargin = 5 * time.Second

// Options are the choices that [New] offers. The zero value is ready to use.
type Options struct {
	// Timeout is how long one attempt at an event may take: [DefaultTimeout] if
	// zero; less than a second is an error. It is the deadline of the context
	// that dispatch is given, and for a Dispatcher takes the place of
	// Dispatcher.Timeout. An attempt that is still running five seconds after it
	// is taken for dead, and another one is made beside it.
	Timeout time.Duration

	// Workers is how many events this process handles at once: [DefaultWorkers]
	// if zero; negative is an error.
	Workers int

	// Schema is the PostgreSQL schema of River's tables, which has to exist: if
	// empty, the first in the connection's search_path. It has to be one that no
	// other user of River shares; see the package's documentation.
	Schema string

	// Log is told what the inbox could not store, which events were given up,
	// and what River has to say: [slog.Default] if nil.
	Log *slog.Logger

	// Configure, if set, changes what else River has to offer: retention, the
	// schedule and number of attempts, plugins. It is called once by [New], with
	// the configuration that the inbox would use.
	Configure func(*river.Config)
}

// An Inbox takes verified deliveries in, keeps them in a database and works them
// off. It is made by [New]; the zero value is not usable. It is safe for
// concurrent use. TTx is the type of the driver's transactions, and follows from
// the driver.
type Inbox[TTx any] struct {
	client   *river.Client[TTx]
	migrator *rivermigrate.Migrator[TTx]
	log      *slog.Logger
}

// New returns an inbox in the database of driver. What it takes in is handed to
// dispatch, usually the Dispatch method of a grantexhook.Dispatcher, whose Store
// can stay nil: River hands an event to one worker at a time. A nil opts is the
// zero [Options].
//
// It does not connect. [Inbox.Migrate] creates the tables, and nothing is worked
// before [Inbox.Start]. It is an error if driver or dispatch is nil, or if River
// or the inbox refuses an option.
func New[TTx any](driver riverdriver.Driver[TTx], dispatch func(ctx context.Context, body []byte) error, opts *Options) (*Inbox[TTx], error) {
	if opts == nil {
		opts = &Options{}
	}
	if driver == nil || dispatch == nil {
		return nil, errors.New("riverinbox: New needs a driver of River and the Dispatch method of a Dispatcher")
	}
	config, err := opts.config(dispatch)
	if err != nil {
		return nil, err
	}
	client, err := river.NewClient(driver, config)
	if err != nil {
		return nil, fmt.Errorf("riverinbox: %w", err)
	}
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: config.Logger, Schema: config.Schema})
	if err != nil {
		return nil, fmt.Errorf("riverinbox: %w", err)
	}
	return &Inbox[TTx]{client, migrator, cmp.Or(config.Logger, slog.Default())}, nil
}

func (o *Options) config(dispatch func(context.Context, []byte) error) (*river.Config, error) {
	switch {
	case o.Timeout != 0 && o.Timeout < time.Second:
		return nil, fmt.Errorf("riverinbox: Timeout is %v; it must be at least 1s, or 0 for %v", o.Timeout, DefaultTimeout)
	case o.Workers < 0:
		return nil, fmt.Errorf("riverinbox: Workers is %d; it must be positive, or 0 for %d", o.Workers, DefaultWorkers)
	}
	log := cmp.Or(o.Log, slog.Default())
	timeout := cmp.Or(o.Timeout, DefaultTimeout)
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{dispatch: dispatch, log: log})
	config := &river.Config{
		JobTimeout:           timeout,
		RescueStuckJobsAfter: timeout + rescueMargin,
		Logger:               log,
		Queues:               map[string]river.QueueConfig{queue: {MaxWorkers: cmp.Or(o.Workers, DefaultWorkers)}},
		Schema:               o.Schema,
		Workers:              workers,
	}
	if o.Configure != nil {
		o.Configure(config)
	}
	return config, nil
}

// Migrate brings River's tables to the version that the inbox needs. Several
// processes may do so at once.
func (in *Inbox[TTx]) Migrate(ctx context.Context) (err error) {
	// River takes no lock: whoever is second at a step fails, and has to look
	// again at what is left to do.
	for range 20 {
		if _, err = in.migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("riverinbox: creating the tables: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("riverinbox: creating the tables: %w", err)
}

// Start begins to work off what the inbox holds, in goroutines of its own, until
// [Inbox.Stop]. It returns an error if the database does not answer before ctx
// ends. Once Start has returned, the end of ctx stops nothing.
func (in *Inbox[TTx]) Start(ctx context.Context) error {
	// River would take the end of ctx for an order to break off all work.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, cancel)
	if err := in.client.Start(work); err != nil {
		cancel()
		return fmt.Errorf("riverinbox: %w", err)
	}
	if !started() {
		return fmt.Errorf("riverinbox: %w", ctx.Err())
	}
	return nil
}

// Stop takes up no more work and waits for what is running. When ctx ends before
// that does, it ends the contexts of what is still running and returns the error
// of ctx; those events are tried again later, like any that failed. Stop the HTTP
// server before: the handler still takes deliveries in, but nobody works them off.
func (in *Inbox[TTx]) Stop(ctx context.Context) error {
	err := in.client.Stop(ctx)
	if err != nil {
		in.client.StopAndCancel(ctx) // does not wait, since ctx has ended
		return fmt.Errorf("riverinbox: events were still being handled: %w", err)
	}
	return nil
}

// Client returns the client of River, for its web interface and to look at, retry
// or cancel what the inbox holds. [Inbox.Start] and [Inbox.Stop] stand for its own.
func (in *Inbox[TTx]) Client() *river.Client[TTx] { return in.client }
