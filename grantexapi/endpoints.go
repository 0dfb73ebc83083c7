package grantexapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"grantex.dev/grantexhook"
)

// pageSize is the most that the API gives.
const pageSize = 100

// ErrMaybeCreated means that [Client.Create] cannot tell whether there is a new
// endpoint, for use with [errors.Is]. If there is one, nobody knows its secret:
// look for it with [Client.List], where the newest come first, and [Client.Delete]
// it before creating another.
var ErrMaybeCreated = errors.New("grantexapi: the endpoint may have been created")

// An Endpoint is a URL to which Grantex delivers events of some types. fmt under
// the verbs %p and %w and encoding/gob show its Secret; the other limits are those
// of [grantexhook.Secret], and a struct of yours that embeds an Endpoint prints as that alone.
type Endpoint struct {
	ID        string             `json:"id"`
	URL       string             `json:"url"`
	Events    []string           `json:"events"`
	Secret    grantexhook.Secret `json:"secret,omitempty"` // only in what Create and Rotate return
	CreatedAt time.Time          `json:"createdAt"`
}

// Format implements [fmt.Formatter] and prints e as any struct. Without it, fmt
// would show the Secret of an Endpoint behind a pointer in a slice under %s.
func (e Endpoint) Format(f fmt.State, verb rune) {
	type whole = Endpoint
	type Endpoint whole // has no methods, and the right name for %#v
	fmt.Fprintf(f, fmt.FormatString(f, verb), Endpoint(e))
}

// The statuses of a [Delivery].
const (
	StatusPending   = "pending"   // not yet sent, or to be tried again
	StatusDelivered = "delivered" // answered with 2xx
	StatusFailed    = "failed"    // given up after MaxAttempts
)

// A Delivery is what the log of Grantex says about one event and one endpoint.
type Delivery struct {
	ID          string    `json:"id"`
	EndpointID  string    `json:"webhookId"`
	EventID     string    `json:"eventId"`
	EventType   string    `json:"eventType"`
	Status      string    `json:"status"`
	Attempts    int       `json:"attempts"`
	MaxAttempts int       `json:"maxAttempts"`
	URL         string    `json:"url"`
	LastError   string    `json:"lastError,omitempty"` // such as "HTTP 503", also if a later attempt was delivered; empty if none failed
	CreatedAt   time.Time `json:"createdAt"`
	DeliveredAt time.Time `json:"deliveredAt,omitzero"` // zero if it was not delivered
}

// Create makes an endpoint to which Grantex delivers the events of these types;
// [grantexhook.Dispatcher.Types] are those that have a handler. Its Secret is shown only
// here: keep string(e.Secret) at once, since encoding or storing the Endpoint
// stores "[redacted]". An answer is not refused for what it says besides ID and
// Secret; what of that is not understood is left zero.
//
// The request is sent once and never again, since a second one would make a
// second endpoint. If it may have been heard and yet brought no secret, be it
// that the connection broke or that the answer was a 5xx or not to be
// understood, the error matches [ErrMaybeCreated]; so does any from a Transport
// that does not say by net/http/httptrace whether it got a connection. With any
// other error, nothing was created.
func (c *Client) Create(ctx context.Context, url string, events ...string) (*Endpoint, error) {
	if url == "" || len(events) == 0 {
		return nil, errors.New("grantexapi: Create needs a URL and at least one type of event, such as TypeGrantRevoked")
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

// List returns all endpoints, the newest first, without their secrets.
func (c *Client) List(ctx context.Context) ([]Endpoint, error) {
	list, err := call(ctx, c, http.MethodGet, "/v1/webhooks", nil, endpointList.complete)
	return list.Webhooks, err
}

// Delete removes an endpoint and drops what is still to be delivered to it. If
// there is none with this ID, or no longer, the error is an [*Error] with
// StatusCode 404; so it is if an HTTPClient that retries got no answer the first
// time.
func (c *Client) Delete(ctx context.Context, endpointID string) error {
	path, err := endpointPath(endpointID)
	if err != nil {
		return err
	}
	text, err := c.do(ctx, http.MethodDelete, path, nil)
	if err == nil && len(text) > 0 && !json.Valid(text) { // the page of another host
		return c.unexpected(http.MethodDelete, path, text)
	}
	return err
}

// Deliveries returns what Grantex has delivered, or is to deliver, to an
// endpoint, the newest first: with this status, which is one of the Status
// constants, or all if it is empty. It fetches the first page of a hundred when
// the loop begins, and each further page when the loop gets there. Only ctx bounds
// a list that grows faster than it is read.
//
// An error is yielded with a zero Delivery. If your loop returns at the first
// error, you can skip the rest of this paragraph. If it goes on, Deliveries fetches
// the same page again, so the error itself neither skips nor repeats a delivery.
// Deliveries doesn't wait before it does so. Your loop should, as the example does:
// for [Error].RetryAfter, or for a few seconds if RetryAfter is zero. Errors that
// may pass are a broken connection, a response that isn't the expected JSON, and the
// statuses 408, 425, 429 and 5xx. After any other error the sequence ends, since the
// same request would only fail again: ctx has ended, an argument or a field of the
// Client is invalid, or the API returned another 4xx or a redirect.
//
// The list may change between two pages. New deliveries push others to the next
// page, where they appear a second time, so compare IDs. When the status of a
// delivery changes, it drops out of a list with the old status. The ones after it
// move up, and those that move to a page you've already read are missed. An empty
// sequence means there were no deliveries.
func (c *Client) Deliveries(ctx context.Context, endpointID, status string) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		for page, seen := 1, 0; ; {
			p, err := c.deliveries(ctx, endpointID, status, page)
			if err != nil {
				last := ctx.Err() != nil || !mayPass(err) // if ctx ends in the loop's body, the next call fails with it
				if !yield(Delivery{}, err) || last {
					return
				}
				continue
			}
			for _, d := range p.Deliveries {
				if !yield(d, nil) {
					return
				}
			}
			page++
			seen += len(p.Deliveries)
			if len(p.Deliveries) == 0 || seen >= *p.Total {
				return
			}
		}
	}
}

func (c *Client) deliveries(ctx context.Context, endpointID, status string, page int) (deliveryPage, error) {
	path, err := endpointPath(endpointID)
	if err != nil {
		return deliveryPage{}, err
	}
	if !slices.Contains([]string{"", StatusPending, StatusDelivered, StatusFailed}, status) {
		return deliveryPage{}, fmt.Errorf(`grantexapi: unknown delivery status %q; use StatusPending, StatusDelivered, StatusFailed, or "" for all`, status)
	}
	query := url.Values{"page": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(pageSize)}}
	if status != "" { // the API refuses an empty one
		query.Set("status", status)
	}
	return call(ctx, c, http.MethodGet, path+"/deliveries?"+query.Encode(), nil, func(p deliveryPage) bool {
		return p.Page == page && p.complete() // a cache may ignore the query
	})
}

// Rotate creates a twin of an endpoint, with the same URL and events and a
// secret of its own, and leaves the old one as it is, so that every event is
// delivered by both. To replace a secret without losing an event:
//
//  1. Rotate, and keep the Secret and the CreatedAt of the twin, or the time if
//     that is zero.
//  2. Accept both, with the new secret as the argument of [grantexhook.NewVerifier] and the
//     old one in [grantexhook.Options].PreviousSecrets. Until you do, the twin's deliveries
//     get a 401 and are retried. With a [grantexhook.MemoryStore], swap the Verifier right
//     away in the running process, for example in an atomic.Pointer[Verifier],
//     and keep the Dispatcher. A restarted process has forgotten what it handled
//     and would handle the twin's retries again. With any other Store, restart.
//  3. Wait until [Client.Deliveries] of the old endpoint with [StatusPending]
//     yields none, or on a busy endpoint none that is older than the twin:
//     [Client.Delete] would drop those. Look twice if there are more than a
//     hundred, since they may slip from page to page.
//  4. Delete the old endpoint. From then on, [grantexhook.VerificationFrom] no longer
//     reports the SecretIndex of its secret.
//  5. Drop the old secret, in the same way.
//
// If [Client.List] has no endpoint with this ID, the error wraps an [*Error]
// with StatusCode 404, as if the API had said so; it has no call to get just one.
// At the limit of the plan it is one with 402; then, as with every error but
// [ErrMaybeCreated] (see [Client.Create]), nothing was changed.
func (c *Client) Rotate(ctx context.Context, endpointID string) (*Endpoint, error) {
	old, err := c.find(ctx, endpointID)
	if err != nil {
		return nil, err
	}
	if old.URL == "" || len(old.Events) == 0 {
		return nil, fmt.Errorf("grantexapi: the list has no URL or no events for the endpoint %q; nothing was changed", endpointID)
	}
	twin, err := c.Create(ctx, old.URL, old.Events...)
	if err != nil && !errors.Is(err, ErrMaybeCreated) {
		err = fmt.Errorf("%w; nothing was changed", err)
	}
	return twin, err
}

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
		text := fmt.Sprintf("no endpoint in the list has the ID %q; nothing was changed", endpointID)
		return nil, &callError{text: "grantexapi: " + text, cause: &Error{StatusCode: http.StatusNotFound, Code: "NOT_FOUND", Message: text}}
	}
	return &all[i], nil
}

// endpointPath escapes an ID, so that it cannot lead to another route.
func endpointPath(id string) (string, error) {
	switch id {
	case "":
		return "", errors.New("grantexapi: the endpoint ID is empty")
	case ".", "..": // no escape keeps these from being resolved on the way
		return "", fmt.Errorf("grantexapi: %q is not an endpoint ID", id)
	}
	return "/v1/webhooks/" + url.PathEscape(id), nil
}

// maybeCreated adds to the error of a call to create an endpoint that it may
// have been heard.
func maybeCreated(err error) error {
	if !maybeHeard(err) {
		return err
	}
	return &callError{
		text:  err.Error() + "; the endpoint may have been created, with a secret that nobody knows: look for it with List, and Delete it before creating another",
		cause: errors.Join(err, ErrMaybeCreated),
	}
}

// A newEndpoint is the only answer with a secret.
type newEndpoint struct{ Endpoint }

// UnmarshalJSON does not lose the secret to what stands beside it.
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

type deliveryPage struct {
	Deliveries []Delivery `json:"deliveries"`
	Total      *int       `json:"total"` // to tell 0 from none, which would end the list
	Page       int        `json:"page"`
}

func (p deliveryPage) complete() bool {
	return p.Deliveries != nil && p.Total != nil && *p.Total >= 0 &&
		!slices.ContainsFunc(p.Deliveries, func(d Delivery) bool { return d.ID == "" })
}
