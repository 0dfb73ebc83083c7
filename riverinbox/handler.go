package riverinbox

import (
	"context"
	"io"
	"net/http"
	"time"
)

// storeTimeout leaves a second of Grantex's ten for reading the body and for the
// response.
const storeTimeout = 9 * time.Second

// Handler returns the handler for Grantex's deliveries. verify must be the Middleware
// of a grantexhook.Verifier, with or without more middleware inside it, because
// whatever verify lets through is stored. Handler panics if verify is nil.
//
// The handler responds with 200 once the event is committed. If the inbox has the
// event already, in any state, it also responds with 200 and doesn't store the event
// again. It responds with 400 if the body can't be read, and with 503 if the event
// can't be stored within nine seconds; Grantex then retries. Above the isolation level
// read committed, PostgreSQL reports conflicts with other transactions. The handler
// retries those inserts within the nine seconds.
//
// An inbox doesn't know the event types, so 422 only means that the body isn't a
// JSON object with a non-empty string id and type. Everything else is stored, whatever
// its createdAt and data are. If data doesn't fit the type of your event handler, you
// find out when the event is dispatched; see the package's documentation.
//
// The handler stores deliveries whether [Inbox.Start] was called or not.
func (in *Inbox[TTx]) Handler(verify func(http.Handler) http.Handler) http.Handler {
	if verify == nil {
		panic("riverinbox: verify is nil, so anyone could put events into the inbox; pass the Middleware of a Verifier")
	}
	return verify(http.HandlerFunc(in.serve))
}

func (in *Inbox[TTx]) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	e, err := parse(body)
	if err != nil {
		in.log.ErrorContext(r.Context(), "riverinbox: delivery rejected", "error", err)
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

// store returns once the event is in the database. If it was there before, stored is
// false.
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
