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
)

const (
	exampleSecret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e" // GRANTEX_WEBHOOK_SECRET
	revoked       = `{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:57.164Z","data":{"grantId":"grnt_1","cascade":true}}`
)

// deliver sends body to h as Grantex does and prints the status of the answer.
func deliver(h http.Handler, secret, body string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/webhooks/grantex", strings.NewReader(body))
	grantexhook.Sign(r.Header, secret, []byte(body), time.Now())
	h.ServeHTTP(w, r)
	fmt.Println(w.Result().Status)
}

// A grantex stands for the API of Grantex, with one endpoint that has a delivery
// under way.
type grantex struct {
	endpoints []map[string]any // newest first
	pending   int              // deliveries of wh_1, one of which is delivered whenever someone looks
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
	keep := string(e.Secret) // at once, where secrets are kept: it is not shown again
	fmt.Println(len(keep))
	// Output:
	// wh_2 [grant.revoked] [redacted]
	// 48
}

// Whoever deletes what may be gone already asks for 404.
func ExampleClient_Delete() {
	api := newGrantex()
	defer api.Close()
	c := &grantexapi.Client{APIKey: "gx_test_example", BaseURL: api.URL}

	fmt.Println(c.Delete(context.Background(), "wh_1"))

	err := c.Delete(context.Background(), "wh_1")
	if refused, ok := errors.AsType[*grantexapi.Error](err); ok && refused.StatusCode == http.StatusNotFound {
		fmt.Println("gone already")
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// gone already
	// grantexapi: the API answered 404 NOT_FOUND: Webhook not found (request 7adc66c3)
}

// A secret is replaced by a twin of its endpoint, without losing an event.
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

	// 2. Accept both. The example SwapVerifier does so without a restart.
	v, err := grantexhook.NewVerifier(string(twin.Secret), &grantexhook.Options{PreviousSecrets: []string{oldSecret}})
	if err != nil {
		fmt.Println(err)
		return
	}
	deliver(v.Middleware(http.HandlerFunc(showSecret)), oldSecret, revoked)
	deliver(v.Middleware(http.HandlerFunc(showSecret)), string(twin.Secret), revoked)

	// 3. Wait for what is older than the twin, which does not deliver it.
	for {
		waiting, err := waitsFor(ctx, c, oldID, twin.CreatedAt)
		if err != nil {
			fmt.Println(err)
			return
		}
		if !waiting {
			break
		}
		fmt.Println("still under way")
		time.Sleep(time.Millisecond) // rather a minute, with the real API
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
	// still under way
	// 401 Unauthorized
}

// waitsFor reports whether a delivery from before a time is still to come.
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

// The log of Grantex shows what is still to be delivered, was delivered, or was
// given up.
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

// An account has a number of calls a minute, and a long list may take more. The
// loop waits as long as the API asks for, or ten seconds if it doesn't say, and
// goes on with the same page.
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
			wait := cmp.Or(refused.RetryAfter, 10*time.Second)
			fmt.Println("waiting", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.ID, d.Status)
	}
	// Output:
	// waiting 1s
	// whd_0 pending
}

// busyOnce answers the first call with 429.
func busyOnce(next http.Handler) *httptest.Server {
	var called atomic.Bool
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if called.Swap(true) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
}
