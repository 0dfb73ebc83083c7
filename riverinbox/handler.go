package riverinbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
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

// Handler returns the handler to which Grantex delivers. verify has to be the
// Middleware of a grantexhook.Verifier, and Handler panics if it is nil: whatever
// verify lets through is taken in.
//
// An event is stored, and only when that is committed the answer is 200; so it is
// for an event that the inbox holds already, in whatever state, which is stored
// once. The other answers are 400 if the body could not be read, 422 if it is no
// event, and 503 if it could not be stored within nine seconds; Grantex then tries
// again. It takes deliveries in whether [Inbox.Start] was called or not.
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

// parse finds what an event of grantexhook has to have. Its errors do not quote
// the body.
func parse(body []byte) (event, error) {
	var e struct{ ID, Type string }
	switch {
	case json.Unmarshal(body, &e) != nil:
		return event{}, errors.New("the body is no event")
	case e.ID == "" || e.Type == "":
		return event{}, errors.New("the event has no id or no type")
	case strings.ContainsRune(e.ID+e.Type, 0):
		return event{}, errors.New("the id or the type has a NUL, which PostgreSQL cannot keep")
	}
	return event{e.ID, e.Type, body}, nil
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
