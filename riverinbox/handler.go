package riverinbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// storeTimeout leaves a second of the ten after which Grantex hangs up for
// reading the body and for the answer.
const storeTimeout = 9 * time.Second

// event is what River keeps. The body is in base64 there: as JSON, PostgreSQL
// would write it anew and refuse some of it. What stands here must not change: it
// is how events are read that were stored before.
type event struct {
	ID   string `json:"id" river:"unique"`
	Type string `json:"type"`
	Body []byte `json:"body"`
}

// Kind implements [river.JobArgs].
func (event) Kind() string { return "grantex_event" }

// InsertOpts implements [river.JobArgsWithInsertOpts]. By default, River would
// take an event again that was given up or cancelled.
func (event) InsertOpts() river.InsertOpts {
	return river.InsertOpts{
		Queue:      queue,
		UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: rivertype.JobStates()},
	}
}

// Handler returns the handler to which Grantex delivers. verify must be the
// Middleware of a grantexhook.Verifier, alone or with middleware inside it, and
// Handler panics if it's nil: whatever verify lets through is stored.
//
// It answers 200 once the event is committed, and also if the inbox has the event
// already, in whatever state; an event is stored once. It answers 400 if the body
// can't be read, and 503 if the event can't be stored within nine seconds. Grantex
// then retries. Conflicts with other transactions, which PostgreSQL reports at the
// isolation levels above read committed, are retried within these nine seconds.
//
// An inbox knows no types of event, so 422 means only that the body isn't a JSON
// object with a non-empty string id and type. Everything else is stored, whatever
// its createdAt and data are. What the handler's type then can't take shows up when
// the event is dispatched; see the package's documentation.
//
// Handler stores deliveries whether [Inbox.Start] was called or not.
func (in *Inbox[TTx]) Handler(verify func(http.Handler) http.Handler) http.Handler {
	if verify == nil {
		panic("riverinbox: Handler needs the Middleware of a Verifier; without it anybody could put events into the inbox")
	}
	return verify(http.HandlerFunc(in.take))
}

func (in *Inbox[TTx]) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	e, err := parse(body)
	if err != nil {
		in.log.ErrorContext(r.Context(), "riverinbox: delivery refused", "error", err)
		http.Error(w, "malformed", http.StatusUnprocessableEntity)
		return
	}
	stored, err := in.store(r.Context(), e)
	switch {
	case err != nil:
		in.log.ErrorContext(r.Context(), "riverinbox: event not stored", "event", e.ID, "type", e.Type, "error", err)
		http.Error(w, "store_failed", http.StatusServiceUnavailable)
	case stored:
		io.WriteString(w, "stored")
	default:
		io.WriteString(w, "duplicate")
	}
}

// parse finds what an event must have to be known again. Its errors don't quote
// the body. PostgreSQL can't keep a NUL, so the id and type that River keeps have
// a substitute for it; the body, which is what is dispatched, stays as it came.
func parse(body []byte) (event, error) {
	var e struct{ ID, Type string }
	switch {
	case json.Unmarshal(body, &e) != nil:
		return event{}, errors.New("the body isn't an object with a string id and type")
	case e.ID == "" || e.Type == "":
		return event{}, errors.New("the event's id or type is missing or empty")
	}
	return event{withoutNUL(e.ID), withoutNUL(e.Type), body}, nil
}

// store returns once the event is in the database; stored is false if it was
// there before.
func (in *Inbox[TTx]) store(ctx context.Context, e event) (stored bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = retry(ctx, func() error {
		result, err := in.client.Insert(ctx, e, nil)
		stored = err == nil && !result.UniqueSkippedAsDuplicate
		return err
	})
	return stored, err
}
