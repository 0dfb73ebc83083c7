package grantexapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/hooktest"
)

const (
	exampleSecret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e" // GRANTEX_WEBHOOK_SECRET
	revoked       = `{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:57.164Z","data":{"grantId":"grnt_1","cascade":true}}`
)

// deliver sends body to h as Grantex does and prints the status of the response.
func deliver(h http.Handler, secret, body string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/webhooks/grantex", strings.NewReader(body))
	grantexhook.Sign(r.Header, secret, []byte(body), time.Now())
	h.ServeHTTP(w, r)
	fmt.Println(w.Result().Status)
}

// A grantex stands in for the API, with one endpoint that has a pending delivery.
type grantex struct {
	endpoints []map[string]any // newest first
	pending   int              // deliveries of wh_1; each look at them delivers one
}

func newGrantex() *httptest.Server {
	g := &grantex{pending: 1, endpoints: []map[string]any{
		{"id": "wh_1", "url": "https://example.com/webhooks/grantex", "events": []string{"grant.revoked"}, "createdAt": time.Now().Add(-time.Hour)},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/webhooks", g.create)
	mux.HandleFunc("GET /v1/webhooks", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"webhooks": g.endpoints})
	})
	mux.HandleFunc("GET /v1/webhooks/{id}/deliveries", g.deliveries)
	mux.HandleFunc("DELETE /v1/webhooks/{id}", g.remove)
	mux.HandleFunc("GET /v1/events/stream", g.stream)
	return httptest.NewServer(mux)
}

func (g *grantex) create(w http.ResponseWriter, r *http.Request) {
	e := map[string]any{}
	json.NewDecoder(r.Body).Decode(&e)
	e["id"] = fmt.Sprintf("wh_%d", len(g.endpoints)+1)
	e["createdAt"] = time.Now()
	g.endpoints = append([]map[string]any{e}, g.endpoints...)
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{"id": e["id"], "url": e["url"], "events": e["events"], "createdAt": e["createdAt"], "secret": exampleSecret})
}

func (g *grantex) deliveries(w http.ResponseWriter, r *http.Request) {
	list := []map[string]any{}
	for i := range g.pending {
		list = append(list, map[string]any{"id": fmt.Sprint("whd_", i), "status": "pending", "createdAt": time.Now().Add(-time.Minute)})
	}
	g.pending = max(0, g.pending-1)
	json.NewEncoder(w).Encode(map[string]any{"deliveries": list, "total": len(list), "page": 1})
}

func (g *grantex) remove(w http.ResponseWriter, r *http.Request) {
	for i, e := range g.endpoints {
		if e["id"] == r.PathValue("id") {
			g.endpoints = append(g.endpoints[:i:i], g.endpoints[i+1:]...)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(w, `{"message":"Webhook not found","code":"NOT_FOUND","requestId":"7adc66c3"}`)
}

func (g *grantex) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, ": keepalive\n\ndata: %s\n\n", revoked)
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func ExampleClient_Create() {
	api := newGrantex() // leave BaseURL empty for the real one
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}

	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil })

	e, err := c.Create(context.Background(), "https://example.com/webhooks/grantex", d.Types()...)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.ID, e.Events, e.Secret)
	keep := string(e.Secret) // store it right away, since it isn't shown again
	fmt.Println(len(keep))
	// Output:
	// wh_2 [grant.revoked] [redacted]
	// 48
}

func ExampleClient_List() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}

	endpoints, err := c.List(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range endpoints {
		fmt.Println(e.ID, e.URL, e.Events)
	}
	// Output:
	// wh_1 https://example.com/webhooks/grantex [grant.revoked]
}

// A 404 means that the endpoint is already gone.
func ExampleClient_Delete() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}

	fmt.Println(c.Delete(context.Background(), "wh_1"))

	err := c.Delete(context.Background(), "wh_1")
	if refused, ok := errors.AsType[*grantexapi.Error](err); ok && refused.StatusCode == http.StatusNotFound {
		fmt.Println("already gone")
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// already gone
	// grantexapi: the API returned 404 NOT_FOUND: Webhook not found (request 7adc66c3)
}

// To replace a secret without losing an event, create a twin of its endpoint.
func ExampleClient_Rotate() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}
	const oldID, oldSecret = "wh_1", "the old secret"
	ctx := context.Background()

	// 1. A twin with a new secret. The old endpoint stays as it is.
	twin, err := c.Rotate(ctx, oldID)
	if err != nil {
		fmt.Println(err) // nothing was changed, unless errors.Is(err, grantexapi.ErrMaybeCreated)
		return
	}

	// 2. Accept both. Package grantexhook's example SwapVerifier does so without a restart.
	v, err := grantexhook.NewVerifier(string(twin.Secret), &grantexhook.Options{PreviousSecrets: []string{oldSecret}})
	if err != nil {
		fmt.Println(err)
		return
	}
	deliver(v.Middleware(http.HandlerFunc(showSecret)), oldSecret, revoked)
	deliver(v.Middleware(http.HandlerFunc(showSecret)), string(twin.Secret), revoked)

	// 3. Wait for deliveries older than the twin, which the twin doesn't make.
	for {
		waiting, err := waitsFor(ctx, c, oldID, twin.CreatedAt)
		if err != nil {
			fmt.Println(err)
			return
		}
		if !waiting {
			break
		}
		fmt.Println("still pending")
		sleep(ctx, time.Minute)
	}

	// 4. Delete the old endpoint.
	if err := c.Delete(ctx, oldID); err != nil {
		fmt.Println(err)
		return
	}

	// 5. Accept only the new secret, in the same way.
	v, err = grantexhook.NewVerifier(string(twin.Secret), &grantexhook.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	deliver(v.Middleware(http.HandlerFunc(showSecret)), oldSecret, revoked)
	// Output:
	// signed with secret 1
	// 200 OK
	// signed with secret 0
	// 200 OK
	// still pending
	// waiting 1m0s
	// 401 Unauthorized
}

// waitsFor reports whether a delivery created before a time is still pending.
func waitsFor(ctx context.Context, c *grantexapi.Client, endpointID string, before time.Time) (bool, error) {
	for d, err := range c.Deliveries(ctx, endpointID, grantexapi.StatusPending) {
		if err != nil {
			return false, err
		}
		if d.CreatedAt.Before(before) {
			return true, nil
		}
	}
	return false, nil
}

func showSecret(w http.ResponseWriter, r *http.Request) {
	how, _ := grantexhook.VerificationFrom(r.Context())
	fmt.Println("signed with secret", how.SecretIndex)
}

// Deliveries are pending, delivered, or failed.
func ExampleClient_Deliveries() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}

	for d, err := range c.Deliveries(context.Background(), "wh_1", grantexapi.StatusPending) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.ID, d.Status)
	}
	// Output:
	// whd_0 pending
}

// An account may make a limited number of calls a minute, and a long list may take more.
// The loop waits as long as the API asks, or for ten seconds if the API doesn't say, and
// continues with the same page. Your sleep would be a select of time.After and ctx.Done.
func ExampleClient_Deliveries_wait() {
	grantex := newGrantex()
	defer grantex.Close()
	api := busyOnce(grantex.Config.Handler)
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	for d, err := range c.Deliveries(ctx, "wh_1", grantexapi.StatusPending) {
		if refused, ok := errors.AsType[*grantexapi.Error](err); ok && refused.StatusCode == http.StatusTooManyRequests {
			sleep(ctx, cmp.Or(refused.RetryAfter, 10*time.Second))
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.ID, d.Status)
	}
	// Output:
	// waiting 59s
	// whd_0 pending
}

// An error means that the list isn't complete, so don't conclude anything from what's
// missing in it.
func ExampleClient_Grants() {
	api := hooktest.NewAPI() // for tests; leave HTTPClient nil for the real one
	defer api.Close()
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_1", PrincipalID: "user_1", Scopes: []string{"calendar:read"}})
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_2", PrincipalID: "user_2", Scopes: []string{"email:send"}})
	c := &grantexapi.Client{APIKey: "gx_test_example", HTTPClient: api.Client()}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	for g, err := range c.Grants(ctx, grantexapi.GrantQuery{Status: "active", PrincipalID: "user_1"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(g.ID, g.Scopes)
	}
	// Output:
	// grnt_1 [calendar:read]
}

// The Status of a grant doesn't change when it expires. If Grantex doesn't know a grant,
// or its agent was deleted, the Code is NOT_FOUND. A 404 without that Code may come from
// a proxy, so it proves nothing.
func ExampleClient_Grant() {
	api := hooktest.NewAPI() // for tests; leave HTTPClient nil for the real one
	defer api.Close()
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_1"})
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_2"})
	api.Revoke("grnt_2")
	c := &grantexapi.Client{APIKey: "gx_test_example", HTTPClient: api.Client()}

	for _, id := range []string{"grnt_1", "grnt_2", "grnt_3"} {
		g, err := c.Grant(context.Background(), id)
		refused, _ := errors.AsType[*grantexapi.Error](err)
		switch {
		case refused != nil && refused.StatusCode == http.StatusNotFound && refused.Code == "NOT_FOUND":
			fmt.Println(id, "doesn't exist")
		case err != nil:
			fmt.Println(err) // it may be active or not
		case g.Status != "active":
			fmt.Println(id, "was revoked") // at g.RevokedAt
		case time.Now().After(g.ExpiresAt):
			fmt.Println(id, "has expired")
		default:
			fmt.Println(id, "is active")
		}
	}
	// Output:
	// grnt_1 is active
	// grnt_2 was revoked
	// grnt_3 doesn't exist
}

// sleep only prints how long it would wait, so the examples take no time.
func sleep(_ context.Context, d time.Duration) { fmt.Println("waiting", d) }

// The Dispatcher handles the events of the live stream like webhooks. If an
// event also comes as a webhook, one Dispatcher handles it once.
func ExampleClient_Events() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		fmt.Printf("ending the sessions of %q\n", e.Data.GrantID)
		stop() // a service would continue
		return nil
	})

	for body, err := range c.Events(ctx, d.Types()...) {
		switch {
		case err != nil:
			fmt.Println(err) // Events reconnects by itself, unless this is the last error
		case body == nil:
			fmt.Println("connected; earlier events may be missing")
		default:
			if err := d.Dispatch(ctx, body); err != nil {
				fmt.Println(err) // the stream doesn't retry
			}
		}
	}
	// Output:
	// connected; earlier events may be missing
	// ending the sessions of "grnt_1"
}

// busyOnce responds to the first call with 429.
func busyOnce(next http.Handler) *httptest.Server {
	var called atomic.Bool
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if called.Swap(true) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "59")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
}
