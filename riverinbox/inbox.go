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

// These are the defaults of [Options].
const (
	DefaultTimeout = time.Minute // for one attempt at an event
	DefaultWorkers = 10          // events that a process handles at once
)

// queue separates events from other jobs in River's tables.
const queue = "grantexhook"

// rescueMargin is how long an attempt may go on after its timeout. A handler that
// respects its deadline needs some of it to return, and River needs some to write the
// outcome.
const rescueMargin = 5 * time.Second

// stopMargin is how long Stop waits for handlers after it has canceled their contexts.
// It includes the time that River needs to release their events.
const stopMargin = 2 * time.Second

// Options configures [New]. The zero value is ready to use.
type Options struct {
	// Timeout is the time for one attempt at an event. If zero, it's
	// [DefaultTimeout]. Less than a second is an error. It sets the deadline of
	// dispatch's context, and replaces Dispatcher.Timeout. If an attempt still runs
	// five seconds later, the event is handled again in parallel. Timeout must be
	// the same in all processes that share a database; see the package's
	// documentation.
	Timeout time.Duration

	// Workers is the number of events that this process handles at once. If zero,
	// it's [DefaultWorkers]. A negative number is an error.
	Workers int

	// Schema is the PostgreSQL schema of River's tables. It must exist, and no other
	// user of River may share it; see the package's documentation. If empty, it's the
	// first schema in the connection's search_path. With SQLite, setting it is an
	// error.
	Schema string

	// Log gets the events that can't be stored, are malformed or are given up, at
	// level Error. River logs there too. If nil, it's [slog.Default] when New is
	// called.
	Log *slog.Logger

	// Configure, if set, can change River's configuration, for example retention,
	// plugins, or the schedule and number of attempts. [New] calls it once, with the
	// configuration that the inbox would use. Configure must keep the queue, and
	// JobTimeout must stay positive. Keep events for more than ten minutes, or
	// Grantex's retries can be stored again.
	Configure func(*river.Config)
}

// An Inbox stores verified deliveries in a database and processes them later. Use
// [New] to create one; the zero value isn't usable. It's safe for concurrent use. TTx
// is the type of the driver's transactions, which Go infers from the driver.
type Inbox[TTx any] struct {
	client   *river.Client[TTx]
	migrator *rivermigrate.Migrator[TTx]
	log      *slog.Logger
}

// New returns an inbox in the database of driver. The inbox calls dispatch with the
// body of each event that it stored. dispatch is usually the Dispatch method of a
// grantexhook.Dispatcher. The Dispatcher's Store can stay nil, since River gives an
// event to one worker at a time. A nil opts is the zero [Options].
//
// New doesn't connect to the database. [Inbox.Migrate] creates the tables, and
// [Inbox.Start] starts the processing. New returns an error if driver or dispatch is
// nil, or if an option isn't allowed.
func New[TTx any](driver riverdriver.Driver[TTx], dispatch func(ctx context.Context, body []byte) error, opts *Options) (*Inbox[TTx], error) {
	if opts == nil {
		opts = &Options{}
	}
	if driver == nil || dispatch == nil {
		return nil, errors.New("riverinbox: driver or dispatch is nil; New needs a River driver and the Dispatch method of a Dispatcher")
	}
	if opts.Schema != "" && driver.DatabaseName() == riverdriver.DatabaseNameSQLite {
		return nil, errors.New("riverinbox: SQLite has no schemas; leave Options.Schema empty and use a separate file")
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

// check finds mistakes that River wouldn't report.
func check(c *river.Config) error {
	switch _, ok := c.Queues[queue]; {
	case !ok:
		return fmt.Errorf("riverinbox: Configure removed the queue %q, which contains the events; keep it and add others", queue)
	case c.JobTimeout <= 0:
		return errors.New("riverinbox: Configure set a JobTimeout that isn't positive, so the events of a killed process would never be retried; use Options.Timeout")
	}
	return nil
}

// replaceStuck lets another handler start if one ignores its context, so other events
// don't wait for it.
func replaceStuck(context.Context, river.JobStuckHandlerParams) river.JobStuckHandlerResult {
	return river.JobStuckHandlerResult{AddWorkerSlot: true}
}

// Migrate creates River's tables, or brings them to the version that the inbox needs.
// Several processes may call it at once.
func (in *Inbox[TTx]) Migrate(ctx context.Context) (err error) {
	// River doesn't lock. If two processes run the same step, one of them fails and
	// must check again what is left to do.
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

// Start starts goroutines that process events until [Inbox.Stop]. If the database
// doesn't respond before ctx ends, Start returns an error and you can call it again.
// After Start has returned nil, ctx has no effect.
func (in *Inbox[TTx]) Start(ctx context.Context) error {
	// River would cancel all work when ctx ends.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, cancel)
	err := in.client.Start(work)
	if detach() && err == nil {
		return nil
	}
	cancel()
	if err == nil { // River has started, although ctx has ended
		in.client.Stop(context.WithoutCancel(ctx))
	}
	return fmt.Errorf("riverinbox: start: %w", cmp.Or(ctx.Err(), err))
}

// Stop stops the processing and waits for running handlers. If ctx ends first, Stop
// cancels the handlers' contexts, waits two seconds for them to return, and returns the
// error of ctx. The event of a handler that returned can be retried at once, and the
// attempt doesn't count. If a handler didn't return, its event is retried as if the
// process had been killed. Shut down the HTTP server first: the handler still stores
// deliveries, but they aren't processed until the next Start.
func (in *Inbox[TTx]) Stop(ctx context.Context) error {
	err := in.client.Stop(ctx)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMargin)
	defer cancel()
	in.client.StopAndCancel(ctx)
	return fmt.Errorf("riverinbox: stop: %w", err)
}

// Client returns River's client, for River's web interface and for listing, retrying
// and canceling events. Don't call its Start and Stop; use [Inbox.Start] and
// [Inbox.Stop].
func (in *Inbox[TTx]) Client() *river.Client[TTx] { return in.client }
