package grantexapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"grantex.dev/grantexhook"
)

// An Endpoint is a URL to which Grantex delivers events of certain types. Printed,
// logged or encoded, it doesn't show its Secret. The exceptions are fmt's verbs %p and
// %w, encoding/gob, and the other limits of [grantexhook.Secret]. If your own struct
// embeds an Endpoint, only the Endpoint is printed.
type Endpoint struct {
	ID        string             `json:"id"`
	URL       string             `json:"url"`
	Events    []string           `json:"events"`           // the event types to deliver
	Secret    grantexhook.Secret `json:"secret,omitempty"` // only from Create and Rotate
	CreatedAt time.Time          `json:"createdAt"`
}

// Format implements [fmt.Formatter] and prints e like any struct. Without it, %s would
// show the Secret of an Endpoint in a slice of pointers.
func (e Endpoint) Format(f fmt.State, verb rune) {
	type whole = Endpoint
	type Endpoint whole // has no methods, and the right name for %#v
	fmt.Fprintf(f, fmt.FormatString(f, verb), Endpoint(e))
}

// Create creates an endpoint at a URL for events of these types, for example the types
// that [grantexhook.Dispatcher.Types] returns. Grantex shows the Secret only this once.
// Store string(e.Secret) right away: encoding or printing the Endpoint writes
// "[redacted]" instead. The response must contain the ID and the Secret. Any other
// field that can't be decoded is left zero.
//
// Create never retries: a second request would create a second endpoint. The error
// matches [ErrMaybeCreated] if the request may have arrived and no secret came back,
// for example if the connection broke or the API returned a 5xx. The same goes for any
// error from a Transport that doesn't report its connections to net/http/httptrace.
// With any other error, no endpoint was created.
func (c *Client) Create(ctx context.Context, url string, events ...string) (*Endpoint, error) {
	if url == "" || len(events) == 0 {
		return nil, errors.New("grantexapi: Create needs a URL and at least one event type, such as TypeGrantRevoked")
	}
	body, _ := json.Marshal(struct { // strings always encode
		URL    string   `json:"url"`
		Events []string `json:"events"`
	}{url, events})
	created, err := call(ctx, c, http.MethodPost, "/v1/webhooks", body, newEndpoint.complete)
	if err != nil {
		return nil, maybeCreated(err)
	}
	return &created.Endpoint, nil
}

// List returns all endpoints without their secrets, newest first.
func (c *Client) List(ctx context.Context) ([]Endpoint, error) {
	list, err := call(ctx, c, http.MethodGet, "/v1/webhooks", nil, endpointList.complete)
	return list.Webhooks, err
}

// Delete deletes an endpoint and drops its pending deliveries. If the endpoint doesn't
// exist, or no longer exists, the error is an [*Error] with StatusCode 404. An
// HTTPClient that retries can get a 404 from its second try.
func (c *Client) Delete(ctx context.Context, endpointID string) error {
	path, err := endpointPath(endpointID)
	if err != nil {
		return err
	}
	text, err := c.do(ctx, http.MethodDelete, path, nil)
	if err == nil && len(text) > 0 && !json.Valid(text) { // a page from another host
		return c.unexpected(http.MethodDelete, path, text)
	}
	return err
}

// Rotate creates a twin of an endpoint, with the same URL and events and a new secret.
// The old endpoint stays, so both deliver every event. To replace a secret without
// losing an event:
//
//  1. Call Rotate, and keep the twin's Secret and CreatedAt. If CreatedAt is zero,
//     keep the current time.
//  2. Accept both secrets: the new one is the argument of [grantexhook.NewVerifier],
//     and the old one goes into [grantexhook.Options].PreviousSecrets. Until you do,
//     the twin's deliveries get a 401 and are retried. With a
//     [grantexhook.MemoryStore], swap the Verifier right away in the running process,
//     for example in an atomic.Pointer[Verifier], and keep the Dispatcher. A restarted
//     process has forgotten what it handled and would handle the twin's retries again.
//     With any other Store, restart.
//  3. Wait until [Client.Deliveries] of the old endpoint with [StatusPending] yields
//     no delivery, or on a busy endpoint no delivery older than the twin.
//     [Client.Delete] would drop those. Check twice if there are more than a hundred,
//     since they may move from page to page.
//  4. Delete the old endpoint. From then on, [grantexhook.VerificationFrom] no longer
//     reports the SecretIndex of its secret.
//  5. Drop the old secret in the same way.
//
// If [Client.List] returns no endpoint with this ID, the error wraps an [*Error] with
// StatusCode 404. At the limit of your plan it's an [*Error] with 402. With any error
// except [ErrMaybeCreated], Rotate changed nothing.
func (c *Client) Rotate(ctx context.Context, endpointID string) (*Endpoint, error) {
	old, err := c.find(ctx, endpointID)
	if err != nil {
		return nil, err
	}
	if old.URL == "" || len(old.Events) == 0 {
		return nil, fmt.Errorf("grantexapi: the API lists the endpoint %q without a URL or events; nothing was changed", endpointID)
	}
	twin, err := c.Create(ctx, old.URL, old.Events...)
	if err != nil && !errors.Is(err, ErrMaybeCreated) {
		err = fmt.Errorf("%w; nothing was changed", err)
	}
	return twin, err
}

// find looks for an endpoint in the list, since the API has no call for just one.
func (c *Client) find(ctx context.Context, endpointID string) (*Endpoint, error) {
	if _, err := endpointPath(endpointID); err != nil {
		return nil, err
	}
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(e Endpoint) bool { return e.ID == endpointID })
	if i < 0 {
		text := fmt.Sprintf("no endpoint has the ID %q; nothing was changed", endpointID)
		return nil, &callError{text: "grantexapi: " + text, cause: &Error{StatusCode: http.StatusNotFound, Code: "NOT_FOUND", Message: text}}
	}
	return &all[i], nil
}

func endpointPath(id string) (string, error) { return idPath("/v1/webhooks/", "endpoint", id) }

// idPath escapes the ID of a noun, so it can't lead to another route.
func idPath(route, noun, id string) (string, error) {
	switch id {
	case "":
		return "", fmt.Errorf("grantexapi: the %s ID is empty", noun)
	case ".", "..": // resolved in transit however they're escaped
		return "", fmt.Errorf("grantexapi: %q is not a valid %s ID", id, noun)
	}
	return route + url.PathEscape(id), nil
}

// A newEndpoint is the only response with a secret.
type newEndpoint struct{ Endpoint }

// UnmarshalJSON decodes the secret even if another field can't be decoded.
func (e *newEndpoint) UnmarshalJSON(text []byte) error {
	_ = json.Unmarshal(text, &e.Endpoint) // as far as it goes
	return json.Unmarshal(text, &struct {
		ID     *string
		Secret *grantexhook.Secret
	}{&e.ID, &e.Secret})
}

func (e newEndpoint) complete() bool { return e.ID != "" && e.Secret != "" && e.Secret != redacted }

type endpointList struct {
	Webhooks []Endpoint `json:"webhooks"`
}

func (l endpointList) complete() bool {
	return l.Webhooks != nil && !slices.ContainsFunc(l.Webhooks, func(e Endpoint) bool { return e.ID == "" })
}
