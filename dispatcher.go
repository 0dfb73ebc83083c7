package grantexhook

import (
	"cmp"
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

// The errors of a dispatch that aren't the handler's own, for use with [errors.Is].
// [ErrMalformed] is the third.
var (
	// ErrInFlight means that another attempt at the event is being handled.
	ErrInFlight = errors.New("grantexhook: event is being handled")
	// ErrStore means that the Store failed before the event was handled.
	ErrStore = errors.New("grantexhook: store failed")
)

const (
	defaultTimeout = 9 * time.Second // Grantex waits ten; one is for reading the body and responding
	settleTimeout  = 2 * time.Second // for Done and Release, even if the sender has hung up
	keep           = 24 * time.Hour  // Grantex retries for ten minutes, but a sender that was down may resume
)

// A Dispatcher calls the handler of each event's type, once per event. The zero
// value is ready to use and ignores every event until [On] registers handlers. Set
// its fields and handlers before it serves; from then on it is safe for concurrent
// use. It must not be copied.
//
// An event is claimed in the Store, handled, and marked as done. Attempts that
// arrive meanwhile get 409, so Grantex retries; a 200 would lose the event if the
// handler then failed. Later attempts get 200. Delivery is at-least-once: a handler
// runs again if it failed, if its process died, or if the Store couldn't mark the
// event as done. Handlers must be idempotent.
type Dispatcher struct {
	// Store remembers the events. If nil, it's a [MemoryStore], for a single process.
	Store Store

	// Other, if set, handles the types that have no handler. If nil, those are
	// acknowledged and ignored. CreatedAt is zero if the event's isn't an RFC 3339
	// time.
	Other func(context.Context, RawEvent) error

	// Timeout is how long claiming and handling an event may take together. If
	// zero or negative, it's 9 seconds; Grantex hangs up after ten. In ServeHTTP
	// only the Timeout ends the handler's context: a sender that hangs up doesn't.
	// In Dispatch, the deadline of the caller's context replaces it.
	//
	// The claim's lease is twice the Timeout, at most two days. After a crash,
	// Grantex's first retry should find the lease expired. It comes after 30 seconds
	// at the earliest, so with a Timeout of more than 15 seconds it may get 409.
	Timeout time.Duration

	// Trace, if set, is called once for each event, possibly concurrently. It returns the
	// context for the handler, and a function that is then called with the outcome,
	// one of the Outcome constants, and the error or nil. If the event is malformed,
	// its id, type and time may be missing. Trace isn't called if a payload's own
	// decoder ends the goroutine or panics with [http.ErrAbortHandler].
	Trace func(ctx context.Context, id, eventType string, createdAt time.Time) (context.Context, func(outcome string, err error))

	// Log gets the outcome of each event passed to ServeHTTP: at level Error if it
	// went wrong, at Info if it was in flight, and otherwise at Debug. It also gets
	// an Error if the Store couldn't record an outcome. If nil, it's [slog.Default].
	Log *slog.Logger

	handlers map[string]func(body []byte) (task, error) // each decodes an event for its handler
	memory   MemoryStore
}

// A task is an event and what to do with it.
type task struct {
	id, eventType string
	createdAt     time.Time
	run           func(context.Context) error // nil if the type has no handler
}

// On registers h for the events whose data is a T. If h returns an error or panics,
// Grantex retries. If h returns nil, the event is handled, even if the deadline of
// [Dispatcher].Timeout, which ends the context, has passed. A panic with
// [http.ErrAbortHandler] isn't recovered, but the event can still be retried.
//
// On panics if h is nil, if the type already has a handler, or if T can't be a
// payload (see [Payload]). It must not be called once d serves.
func On[T Payload](d *Dispatcher, h func(context.Context, Event[T]) error) {
	eventType := payloadType[T]()
	if h == nil {
		panic("grantexhook: the handler for " + eventType + " is nil; pass a function")
	}
	if d.handlers[eventType] != nil {
		panic("grantexhook: " + eventType + " already has a handler; call On once for each type")
	}
	if d.handlers == nil {
		d.handlers = make(map[string]func([]byte) (task, error))
	}
	itself := decodesItself(reflect.TypeFor[T]())
	d.handlers[eventType] = func(body []byte) (t task, err error) {
		defer catch(&err) // T may decode itself
		e, err := decodePayload[T](body, itself)
		return task{e.ID, e.Type, e.CreatedAt, func(ctx context.Context) error { return h(ctx, *e) }}, err
	}
}

// Types returns the types that have a handler, sorted. Subscribe to these.
func (d *Dispatcher) Types() []string { return slices.Sorted(maps.Keys(d.handlers)) }

// ServeHTTP handles an event that [Verifier.Middleware] has verified. It responds with
// the status of the outcome; see the Outcome constants. A request that didn't pass
// through the middleware gets 500 and is logged. ServeHTTP uses the verified body, even
// if r.Body was read or replaced since.
func (d *Dispatcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := r.Context().Value(verifiedKey{}).(*verifiedBody)
	if !ok {
		d.log().ErrorContext(r.Context(), "grantexhook: request did not pass through Verifier.Middleware; not handled", pathOf(r))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.timeout())
	defer cancel()
	a := d.dispatch(ctx, body.bytes, d.timeout())
	o := outcomes[a.outcome]
	d.report(a, o.level)
	answer(w, a.outcome, o.status)
}

// Dispatch handles the event in body, which must be verified. It is for tests and
// for workers of a queue that stores verified bodies.
//
// It returns nil if the event is handled, was handled before or is ignored.
// Otherwise it returns the handler's own error, a [*PanicError], or an error that
// matches [ErrInFlight], [ErrMalformed] or [ErrStore]. If ctx has already ended,
// Dispatch returns its error and doesn't handle the event.
func (d *Dispatcher) Dispatch(ctx context.Context, body []byte) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(d.timeout())
	}
	timeout := time.Until(deadline)
	ctx, cancel := context.WithDeadline(ctx, deadline) // ends at once if timeout isn't positive
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.dispatch(ctx, body, timeout).err
}

// An attempt is one dispatch of an event, with its result.
type attempt struct {
	task
	ctx     context.Context // from Trace
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
		a.outcome, a.err = OutcomePanicked, errNoReturn // unless once returns
		a.outcome, a.err = d.once(a.ctx, a.task, timeout)
	}
	return a
}

// decode finds the task for the event in body. It first tries a quick guess at the type.
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
		if err == nil {
			t = typed
		}
		return t, err // with what is known about the event, even if T panicked
	}
	if d.Other != nil {
		t.run = func(ctx context.Context) error { return d.Other(ctx, e) }
	}
	return t, nil
}

// once claims the event and runs its task. It settles the claim even if the handler
// ends its goroutine or panics with a value that isn't recovered.
func (d *Dispatcher) once(ctx context.Context, t task, timeout time.Duration) (outcome string, err error) {
	// Twice the time: a handler that keeps to its deadline must not lose its claim
	// to the next attempt. It's capped, since it could overflow.
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
	outcome, err = OutcomePanicked, errNoReturn // unless the handler returns
	defer func() { d.settle(ctx, t, token, outcome) }()
	defer catch(&err)
	err = t.run(ctx)
	switch {
	case err == nil:
		return OutcomeHandled, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return OutcomeTimedOut, err
	default:
		return OutcomeFailed, err
	}
}

// settle marks a handled event as done and releases any other. If that fails, the
// outcome stays the same, since it's about the handler.
func (d *Dispatcher) settle(ctx context.Context, t task, token int64, outcome string) {
	if d.Store != nil { // the MemoryStore never blocks, and a timer would cost as much as all its work
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
		d.log().ErrorContext(ctx, "grantexhook: recording the outcome failed; the event may be handled again or late",
			"event", t.id, "type", t.eventType, "outcome", outcome, "error", err)
	}
}

func (d *Dispatcher) store() Store           { return cmp.Or[Store](d.Store, &d.memory) }
func (d *Dispatcher) timeout() time.Duration { return cmp.Or(max(d.Timeout, 0), defaultTimeout) }
func (d *Dispatcher) log() *slog.Logger      { return cmp.Or(d.Log, slog.Default()) }
