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
// Middleware of a grantexhook.Verifier, with or without more middleware inside it,
// because whatever verify lets through is stored. Handler panics if verify is nil.
//
// It answers 200 once the event is committed. It also answers 200 if the inbox has
// the event already, in whatever state, and doesn't store it again. It answers 400
// if the body can't be read, and 503 if the event can't be stored within nine
// seconds; Grantex then retries. Above the isolation level read committed,
// PostgreSQL reports conflicts with other transactions. Those inserts are retried
// within the nine seconds.
//
// An inbox doesn't know the types of events, so 422 only means that the body isn't a
// JSON object with a non-empty string id and type. Everything else is stored,
// whatever its createdAt and data are. If data doesn't fit the handler's type, you
// find out when the event is dispatched; see the package's documentation.
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

// parse returns what identifies an event. Its errors don't quote the body.
// PostgreSQL can't store a NUL, so parse replaces it in the id and type. The body,
// which is what gets dispatched, stays as it is.
func parse(body []byte) (event, error) {
	var e struct{ ID, Type string }
	switch {
	case json.Unmarshal(body, &e) != nil:
		return event{}, errors.New("the body isn't an object with a string id and type")
	case e.ID == "" || e.Type == "":
		return event{}, errors.New("the id or type of the event is missing or empty")
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
