package grantexhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"
)

// The errors of a dispatch that are not the handler's own, for use with
// [errors.Is]; ErrMalformed is the third.
var (
	// ErrInFlight means that another attempt at the event is being handled.
	ErrInFlight = errors.New("grantexhook: event is being handled")
	// ErrStore means that the Store failed before the event was handled.
	ErrStore = errors.New("grantexhook: store failed")
)

const (
	// defaultTimeout leaves a second of the ten after which Grantex hangs up
	// for reading the body and for the answer.
	defaultTimeout = 9 * time.Second

	// keep is far longer than the ten minutes over which Grantex retries, so
	// that an event is still known when a sender that was down for hours resumes.
	keep = 24 * time.Hour

	// settleTimeout bounds Done and Release, which are called even if the
	// sender has hung up.
	settleTimeout = 2 * time.Second
)

// A Dispatcher hands each event to the handler of its type, once. The zero
// value is ready to use and ignores every event until [On] registers handlers.
// Its fields and handlers are set before it serves; from then on it is safe for
// concurrent use. It must not be copied.
//
// An event is claimed in the Store, handled, and marked as done. Attempts at it
// that arrive meanwhile are told to come again, since answering that it was
// handled would lose it if the handler then fails; later ones are acknowledged.
// A handler runs again if it failed, if its process died, or if the Store could
// not mark the event as done: events are handled at least once, so handlers
// have to bear a repetition.
type Dispatcher struct {
	// Store remembers the events: a [MemoryStore] of its own if nil, which is
	// right for one process.
	Store Store

	// Other, if set, handles the types that no handler is registered for. If
	// nil, these are acknowledged and ignored. CreatedAt is zero if the event has
	// none, or one that isn't a time as RFC 3339 writes it.
	Other func(context.Context, RawEvent) error

	// Timeout is how long claiming and handling an event may take together: 9
	// seconds if it is not positive. In ServeHTTP it alone ends the context of
	// the handler, whether the sender hangs up or not; Grantex does so after ten
	// seconds. In Dispatch, a deadline of the caller's context replaces it.
	//
	// The claim is leased for twice the Timeout, and two days at most. Grantex
	// retries after 30 seconds at the earliest. If a process crashes, its lease
	// has expired by then, provided that Timeout is at most 15 seconds. With a
	// longer one, the first retry may still get 409.
	Timeout time.Duration

	// Trace, if set, is called once for each event and returns the context to
	// handle it with and a function that is called with the outcome, which is
	// one of the Outcome constants, and with the error if there is one. The id,
	// type and time are as far as known if the event is malformed. Trace is not
	// called if the decoder of a payload panics with [http.ErrAbortHandler] or
	// ends the goroutine.
	Trace func(ctx context.Context, id, eventType string, createdAt time.Time) (context.Context, func(outcome string, err error))

	// Log is told what became of each event that ServeHTTP was given, at level
	// Error if it went wrong, at Info if it was in flight and else at Debug. Of
	// one that Dispatch was given, it is told only what no error tells: that the
	// Store did not take the outcome. It is [slog.Default] if nil.
	Log *slog.Logger

	handlers map[string]typedHandler
	memory   MemoryStore
}

// A task is an event with what is to be done about it.
type task struct {
	id, eventType string
	createdAt     time.Time
	run           func(context.Context) error // nil if nobody handles the type
}

// A typedHandler decodes an event for a handler that was registered with On.
type typedHandler func(body []byte) (task, error)

// On registers h for the events whose data is a T. An error or a panic of h
// makes Grantex retry, up to five attempts in all over seven and a half to ten
// minutes. With nil the event counts as handled, however long that took. The
// context ends at the deadline of [Dispatcher].Timeout. A panic with
// [http.ErrAbortHandler] goes on panicking, but the event can still be retried.
//
// On panics if h is nil, if the type has a handler already, or if T cannot be a
// payload (see [Payload]). It must not be called once d serves.
func On[T Payload](d *Dispatcher, h func(context.Context, Event[T]) error) {
	eventType := payloadType[T]()
	if h == nil {
		panic("grantexhook: the handler of " + eventType + " is nil")
	}
	if d.handlers[eventType] != nil {
		panic("grantexhook: " + eventType + " has a handler already")
	}
	if d.handlers == nil {
		d.handlers = make(map[string]typedHandler)
	}
	itself := decodesItself(reflect.TypeFor[T]())
	d.handlers[eventType] = func(body []byte) (t task, err error) {
		defer catch(&err) // T may decode itself
		e, err := decodePayload[T](body, itself)
		if err != nil {
			return task{}, err
		}
		return task{e.ID, e.Type, e.CreatedAt, func(ctx context.Context) error { return h(ctx, *e) }}, nil
	}
}

// Types returns the types that have a handler, sorted: those to subscribe an
// endpoint to.
func (d *Dispatcher) Types() []string {
	return slices.Sorted(maps.Keys(d.handlers))
}

// ServeHTTP handles the event that [Verifier.Middleware] has verified, which
// has to stand before it; without it the answer is 500, and the log says so.
// The body is the one that was verified, whatever became of r.Body since.
//
// Of an answer, Grantex shows its operator only the status. Each of the Outcome
// constants names its own; it is never 204, 205 or 304, which crash the sender.
func (d *Dispatcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verified, ok := r.Context().Value(deliveryKey{}).(*delivery)
	if !ok {
		d.log().ErrorContext(r.Context(), "grantexhook: the Dispatcher stands without a Verifier's Middleware before it; nothing is handled")
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	ctx, cancel := withDeadline(r.Context(), d.timeout())
	defer cancel()
	a := d.dispatch(ctx, verified.body, d.timeout())
	d.report(a)
	answer(w, a.outcome)
}

// Dispatch handles the event in body, for whose origin the caller vouches: it
// is for the worker of a queue that took in verified bodies, and for tests.
//
// It returns nil if the event is handled, was handled before or is ignored. The
// error is that of the handler as it is, a [*PanicError], or one that matches
// [ErrInFlight], [ErrMalformed] or [ErrStore]. If ctx has ended already, nothing
// is done and its error is returned.
func (d *Dispatcher) Dispatch(ctx context.Context, body []byte) error {
	timeout := d.timeout()
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case timeout <= 0: // its timer has not run yet
		return context.DeadlineExceeded
	}
	return d.dispatch(ctx, body, timeout).err
}

// An attempt is what became of an event that was dispatched once.
type attempt struct {
	task
	ctx     context.Context // with what Trace has added
	outcome string
	err     error
}

func (d *Dispatcher) dispatch(ctx context.Context, body []byte, timeout time.Duration) (a attempt) {
	a.ctx = ctx
	a.task, a.err = d.decode(body)
	if d.Trace != nil {
		var end func(string, error)
		a.ctx, end = d.Trace(ctx, a.id, a.eventType, a.createdAt)
		defer func() { end(a.outcome, a.err) }()
	}
	_, panicked := a.err.(*PanicError)
	switch {
	case panicked:
		a.outcome = OutcomePanicked
	case a.err != nil:
		a.outcome = OutcomeMalformed
	case a.run == nil:
		a.outcome = OutcomeIgnored
	default:
		a.outcome, a.err = OutcomePanicked, errNoReturn
		a.outcome, a.err = d.once(a.ctx, a.task, timeout)
	}
	return a
}

// decode finds the task for the event in body. The first way is a short cut; if
// the guess was wrong, the second finds out.
func (d *Dispatcher) decode(body []byte) (task, error) {
	guess := guessType(body)
	if h := d.handlers[string(guess)]; h != nil {
		if t, err := h(body); err == nil && t.eventType == string(guess) {
			return t, nil
		}
	}
	e, err := decodeRaw(body)
	t := task{e.ID, e.Type, e.CreatedAt, nil}
	if err != nil {
		return t, err
	}
	if h := d.handlers[e.Type]; h != nil {
		typed, err := h(body)
		if err != nil {
			return t, err // with what is known about the event, even if T panicked
		}
		return typed, nil
	}
	if d.Other != nil {
		t.run = func(ctx context.Context) error { return d.Other(ctx, e) }
	}
	return t, nil
}

// once claims the event and runs its task. What was claimed is settled even if
// the handler goes on panicking or ends its goroutine.
func (d *Dispatcher) once(ctx context.Context, t task, timeout time.Duration) (outcome string, err error) {
	// Twice the time, so that no handler that keeps to its deadline loses its
	// claim to the next attempt; bounded, so that it cannot overflow.
	lease := 2 * min(timeout, keep)
	token, done, err := d.store().Claim(ctx, t.id, lease)
	switch {
	case err != nil:
		return OutcomeStoreFailed, fmt.Errorf("%w to claim the event: %w", ErrStore, err)
	case done:
		return OutcomeDuplicate, nil
	case token == 0:
		return OutcomeInFlight, ErrInFlight
	}
	outcome = OutcomePanicked
	defer func() { d.settle(ctx, t, token, outcome) }()
	return run(ctx, t.run)
}

// settle marks what was handled as done and frees everything else. An error of
// its own changes no outcome: it is that of the handler which matters.
func (d *Dispatcher) settle(ctx context.Context, t task, token int64, outcome string) {
	if d.Store != nil { // the memory never blocks, and a timer would cost as much as all its work
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
	}
	var err error
	if outcome == OutcomeHandled {
		err = d.store().Done(ctx, t.id, keep)
	} else {
		err = d.store().Release(ctx, t.id, token)
	}
	if err != nil {
		d.log().ErrorContext(ctx, "grantexhook: the store did not take the outcome; the event may be handled again, or late",
			"event", t.id, "type", t.eventType, "outcome", outcome, "error", err)
	}
}

func (d *Dispatcher) store() Store {
	if d.Store == nil {
		return &d.memory
	}
	return d.Store
}

func (d *Dispatcher) timeout() time.Duration {
	if d.Timeout <= 0 {
		return defaultTimeout
	}
	return d.Timeout
}

func (d *Dispatcher) log() *slog.Logger {
	if d.Log == nil {
		return slog.Default()
	}
	return d.Log
}
