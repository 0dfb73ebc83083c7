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

// breakOff is how long Stop waits for handlers whose contexts it has ended. River
// needs it too, to make their events free again.
const breakOff = 2 * time.Second

// Options are the choices that [New] offers. The zero value is ready to use.
type Options struct {
	// Timeout is how long one attempt at an event may take: [DefaultTimeout] if
	// zero; less than a second is an error. It is the deadline of the context
	// that dispatch is given, and for a Dispatcher takes the place of
	// Dispatcher.Timeout. An attempt that is still running five seconds after it
	// is taken for dead, and another one is made beside it. It has to be the same
	// in all processes that share a database; see the package's documentation.
	Timeout time.Duration

	// Workers is how many events this process handles at once: [DefaultWorkers]
	// if zero; negative is an error.
	Workers int

	// Schema is the PostgreSQL schema of River's tables, which has to exist: if
	// empty, the first in the connection's search_path. It has to be one that no
	// other user of River shares; see the package's documentation. SQLite has
	// none, and it is an error there.
	Schema string

	// Log gets the events that can't be stored, are malformed or are given up, at
	// level Error. River logs there too. If nil, it's [slog.Default] as it is
	// when New is called.
	Log *slog.Logger

	// Configure, if set, changes what else River has to offer: retention, the
	// schedule and number of attempts, plugins. It is called once by [New], with
	// the configuration that the inbox would use. The queue in it has to stay, and
	// JobTimeout positive. If events are kept for less than the ten minutes over
	// which Grantex tries again, duplicates get in.
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
	if opts.Schema != "" && driver.DatabaseName() == riverdriver.DatabaseNameSQLite {
		return nil, errors.New("riverinbox: SQLite has no schema; give the inbox a file of its own")
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
		JobStuckThreshold:    rescueMargin,
		JobStuckHandler:      replaceStuck,
		Logger:               log,
		Queues:               map[string]river.QueueConfig{queue: {MaxWorkers: cmp.Or(o.Workers, DefaultWorkers)}},
		Schema:               o.Schema,
		Workers:              workers,
	}
	if o.Configure != nil {
		o.Configure(config)
	}
	return config, check(config)
}

// check finds what River would take without a word.
func check(c *river.Config) error {
	switch _, ok := c.Queues[queue]; {
	case !ok:
		return fmt.Errorf("riverinbox: Configure took the queue %q away, which the events are in; add others beside it", queue)
	case c.JobTimeout <= 0:
		return errors.New("riverinbox: Configure set JobTimeout to none, without which River never takes up what a killed process was doing")
	}
	return nil
}

// replaceStuck lets another handler begin in the place of one that does not heed
// its context: the others' events do not wait for it.
func replaceStuck(context.Context, river.JobStuckHandlerParams) river.JobStuckHandlerResult {
	return river.JobStuckHandlerResult{AddWorkerSlot: true}
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
// ends, and can be called again then. Once Start has returned nil, the end of ctx
// stops nothing.
func (in *Inbox[TTx]) Start(ctx context.Context) error {
	// River would take the end of ctx for an order to break off all work.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, cancel)
	err := in.client.Start(work)
	if detach() && err == nil {
		return nil
	}
	cancel()
	if err == nil { // it has started, and stops again
		in.client.Stop(context.WithoutCancel(ctx))
	}
	return fmt.Errorf("riverinbox: start: %w", cmp.Or(ctx.Err(), err))
}

// Stop takes up no more work and waits for what is running. When ctx ends before
// that does, it ends the contexts of what is still running, waits two seconds for
// it to return, and returns the error of ctx. What returned is free at once and
// has lost no attempt; what did not is taken up like the events of a process that
// was killed. Stop the HTTP server before: the handler still takes deliveries in,
// but nobody works them off.
func (in *Inbox[TTx]) Stop(ctx context.Context) error {
	err := in.client.Stop(ctx)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakOff)
	defer cancel()
	in.client.StopAndCancel(ctx)
	return fmt.Errorf("riverinbox: stop: %w", err)
}

// Client returns the client of River, for its web interface and to look at, retry
// or cancel what the inbox holds. [Inbox.Start] and [Inbox.Stop] stand for its own.
func (in *Inbox[TTx]) Client() *river.Client[TTx] { return in.client }
