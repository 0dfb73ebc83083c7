package hooktest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// maxRequest is the size in bytes of the largest request body that Grantex accepts.
const maxRequest = 1 << 20

// subscribable has the event types that an endpoint can subscribe to.
var subscribable = []string{grantexhook.TypeGrantCreated, grantexhook.TypeGrantRevoked, grantexhook.TypeTokenIssued}

// An endpoint has the fields of the API's responses, in their order.
type endpoint struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Events    []string  `json:"events"`
	Secret    string    `json:"secret,omitempty"`
	CreatedAt time.Time `json:"createdAt"`

	sender     Sender
	target     *url.URL
	dial       func(ctx context.Context, network, addr string) (net.Conn, error) // nil for the network
	ctx        context.Context                                                   // until it's deleted
	end        context.CancelFunc
	deliveries []*delivery // oldest first; the API's mu guards them
}

// Endpoint creates a webhook endpoint and returns its ID. It delivers events of these
// types as s would: to s.Handler or s.URL, signed with s.Secret, with everything that s
// does differently from Grantex. Without types it delivers grant.created, grant.revoked
// and token.issued. If a status crashes the real sender, the delivery isn't retried and
// stays pending, and slog.Default gets an error.
//
// Your program can also create endpoints through the API. Those deliver over the
// network, unless an endpoint with the same URL has a Handler. Then the Handler gets the
// deliveries, for example those of the twin that Client.Rotate creates. The URL for a
// Handler is "http://example.com" followed by s.Path.
//
// It panics if a field of s is out of range.
func (a *API) Endpoint(s Sender, types ...string) (id string) {
	err := s.valid()
	if err == nil && s.Handler == nil && s.URL == "" {
		err = errors.New("the Sender has no target; set Handler or URL")
	}
	target, err2 := s.target()
	if err = errors.Join(err, err2); err != nil {
		panic("hooktest: " + err.Error())
	}
	e := &endpoint{URL: target.String(), Secret: s.Secret, Events: types, sender: s, target: target}
	if len(types) == 0 {
		e.Events = subscribable
	}
	if s.Handler != nil {
		e.dial = a.serve(s.Handler).dial
	}
	return a.add(e).ID
}

// add returns the endpoint as the API shows it once.
func (a *API) add(e *endpoint) endpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.CreatedAt = time.Now()
	e.ID = sender.NewID("wh_", e.CreatedAt)
	e.ctx, e.end = context.WithCancel(a.ctx)
	for _, twin := range a.endpoints {
		if e.dial == nil && twin.URL == e.URL {
			e.dial = twin.dial
		}
	}
	a.endpoints = append(a.endpoints, e)
	return *e
}

func (a *API) createEndpoint(r *http.Request) (int, any) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRequest))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return http.StatusRequestEntityTooLarge, newAPIError("BAD_REQUEST", "Request body is too large")
	}
	var ask struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
	}
	if json.Unmarshal(body, &ask) != nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return errBadRequest("Body is not valid JSON but content-type is set to 'application/json'")
	}
	if ask.URL == "" || len(ask.Events) == 0 {
		return errBadRequest("url and events are required")
	}
	unknown := slices.DeleteFunc(slices.Clone(ask.Events), func(t string) bool { return slices.Contains(subscribable, t) })
	if len(unknown) > 0 {
		return errBadRequest("Invalid event types: %s. Valid: %s", strings.Join(unknown, ", "), strings.Join(subscribable, ", "))
	}
	if problem := checkURL(ask.URL); problem != "" {
		return errBadRequest("Invalid webhook URL: %s", problem)
	}
	target, err := sender.ParseURL(ask.URL)
	if err != nil {
		return errBadRequest("Invalid webhook URL: URL must be absolute and valid")
	}
	secret := newSecret()
	created := a.add(&endpoint{URL: ask.URL, Events: ask.Events, Secret: secret, target: target, sender: Sender{Secret: secret}})
	return http.StatusCreated, created
}

// checkURL returns what the API finds wrong with an endpoint's URL.
func checkURL(rawURL string) string {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "":
		return "URL must be absolute and valid"
	case u.Scheme != "http" && u.Scheme != "https":
		return "URL protocol must be one of: https:, http:"
	case u.User != nil:
		return "URL must not contain embedded credentials"
	}
	return ""
}

// newSecret returns a secret like those of Grantex.
func newSecret() string {
	var b [24]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (a *API) listEndpoints(*http.Request) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []endpoint{}
	for _, e := range slices.Backward(a.endpoints) {
		shown := *e
		shown.Secret = ""
		list = append(list, shown)
	}
	return http.StatusOK, struct {
		Webhooks []endpoint `json:"webhooks"`
	}{list}
}

func (a *API) deleteEndpoint(r *http.Request) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.endpoint(r.PathValue("id"))
	if e == nil {
		return errNotFound("Webhook not found")
	}
	e.end()
	a.endpoints = slices.DeleteFunc(a.endpoints, func(other *endpoint) bool { return other == e })
	return http.StatusNoContent, nil
}

// endpoint returns nil if there is no endpoint with this ID.
func (a *API) endpoint(id string) *endpoint {
	i := slices.IndexFunc(a.endpoints, func(e *endpoint) bool { return e.ID == id })
	if i < 0 {
		return nil
	}
	return a.endpoints[i]
}
