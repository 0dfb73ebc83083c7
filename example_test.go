package grantexhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
)

const (
	exampleSecret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e" // GRANTEX_WEBHOOK_SECRET
	revoked       = `{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:57.164Z","data":{"grantId":"grnt_1","cascade":true}}`
	issued        = `{"id":"evt_2","type":"token.issued","createdAt":"2026-11-23T12:01:56.931Z","data":{"tokenId":"tok_1","grantId":"grnt_1",` +
		`"agentId":"ag_1","principalId":"user-123","scopes":["calendar:read"],"expiresAt":"2026-11-24T12:01:56.856Z"}}`
)

// deliver sends body to h as Grantex does and prints the status of the response.
func deliver(h http.Handler, secret, body string) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, _ := http.NewRequest(http.MethodPost, srv.URL+"/webhooks/grantex", io.MultiReader(bytes.NewReader([]byte(body))))
	grantexhook.Sign(r.Header, secret, []byte(body), time.Now())
	resp, err := srv.Client().Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
}

func Example() {
	v, err := grantexhook.NewVerifier(exampleSecret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		fmt.Printf("grant %q was revoked\n", e.Data.GrantID)
		return nil
	})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))

	deliver(mux, exampleSecret, revoked)
	deliver(mux, exampleSecret, revoked) // a retry
	deliver(mux, "not the secret", revoked)
	// Output:
	// grant "grnt_1" was revoked
	// 200 OK
	// 200 OK
	// 401 Unauthorized
}

func ExampleNewVerifier() {
	_, err := grantexhook.NewVerifier("", nil) // for example, from an unset environment variable
	fmt.Println(err)
	// Output:
	// grantexhook: the secret is empty; set it to the value shown when the endpoint was created
}

// During a rotation, deliveries signed with either secret are accepted. Remove the old
// secret after you've deleted the old endpoint.
func ExampleNewVerifier_rotation() {
	v, err := grantexhook.NewVerifier("the new secret", &grantexhook.Options{
		PreviousSecrets:  []string{"the old secret"},
		RequireTimestamp: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		how, ok := grantexhook.VerificationFrom(r.Context())
		fmt.Println("signed with a previous secret:", ok && how.SecretIndex > 0)
	}))
	deliver(h, "the new secret", revoked)
	deliver(h, "the old secret", revoked)
	// Output:
	// signed with a previous secret: false
	// 200 OK
	// signed with a previous secret: true
	// 200 OK
}

// Use Verify if deliveries don't come from net/http.
func ExampleVerifier_Verify() {
	v, err := grantexhook.NewVerifier(exampleSecret, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	grantexhook.Sign(header, exampleSecret, []byte(revoked), time.Now().Add(-time.Hour))

	err = v.Verify(header, []byte(revoked))
	fmt.Println(errors.Is(err, grantexhook.ErrStale))

	header.Del(grantexhook.HeaderSignatureV2) // like older senders, which don't sign a timestamp
	fmt.Println(v.Verify(header, []byte(revoked)))
	// Output:
	// true
	// <nil>
}

// Any handler can be behind the middleware. It reads the body as usual.
func ExampleVerifier_Middleware() {
	v, err := grantexhook.NewVerifier(exampleSecret, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	h := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		how, ok := grantexhook.VerificationFrom(r.Context())
		fmt.Println(len(body), r.ContentLength, err, ok, time.Since(how.SentAt) < time.Minute)
	}))
	deliver(h, exampleSecret, revoked)
	// Output:
	// 119 119 <nil> true true
	// 200 OK
}

// The signature covers the exact bytes sent. A handler that reads or decodes the body
// must be behind the middleware, not in front of it.
func ExampleVerifier_Middleware_incorrect() {
	v, err := grantexhook.NewVerifier(exampleSecret, &grantexhook.Options{
		Log: slog.New(slog.DiscardHandler),
		Refused: func(r *http.Request, reason string, err error) {
			fmt.Println(err)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var d grantexhook.Dispatcher
	verified := v.Middleware(&d)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event grantexhook.RawEvent
		json.NewDecoder(r.Body).Decode(&event) // incorrect!
		verified.ServeHTTP(w, r)
	})
	deliver(h, exampleSecret, revoked)
	// Output:
	// grantexhook: bad signature: the body is empty; was it read before it was verified?
	// 401 Unauthorized
}

func ExampleVerifySignature() {
	header := http.Header{}
	grantexhook.Sign(header, exampleSecret, []byte(revoked), time.Now())
	signature := header.Get(grantexhook.HeaderSignature)

	fmt.Println(grantexhook.VerifySignature([]byte(revoked), signature, exampleSecret))
	fmt.Println(grantexhook.VerifySignature([]byte(issued), signature, exampleSecret))
	// Output:
	// true
	// false
}

// After an error, Grantex retries. Here the second attempt succeeds.
func ExampleOn() {
	v, err := grantexhook.NewVerifier(exampleSecret, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	d := grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler)}
	var attempts atomic.Int64
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
		if attempts.Add(1) == 1 {
			return errors.New("the database is down")
		}
		fmt.Printf("%q may %q until %s\n", e.Data.TokenID, e.Data.Scopes, e.Data.ExpiresAt.Format(time.DateOnly))
		return nil
	})
	deliver(v.Middleware(&d), exampleSecret, issued)
	deliver(v.Middleware(&d), exampleSecret, issued)
	// Output:
	// 500 Internal Server Error
	// "tok_1" may ["calendar:read"] until 2026-11-24
	// 200 OK
}

// A RiskRaised is the data of an event that this package doesn't know.
type RiskRaised struct {
	GrantID string  `json:"grantId"`
	Score   float64 `json:"score"`
}

// EventType makes RiskRaised a payload.
func (RiskRaised) EventType() string { return "risk.raised" }

// Your own type is a payload if it has an EventType method.
func ExampleOn_ownPayload() {
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[RiskRaised]) error {
		fmt.Printf("%q %v\n", e.Data.GrantID, e.Data.Score)
		return nil
	})
	err := d.Dispatch(context.Background(), []byte(`{"id":"evt_3","type":"risk.raised","data":{"grantId":"grnt_1","score":0.7}}`))
	fmt.Println(err)
	// Output:
	// "grnt_1" 0.7
	// <nil>
}

func ExampleDispatcher_Types() {
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.TokenIssued]) error { return nil })
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil })
	fmt.Println(d.Types()) // subscribe the endpoint to these
	// Output:
	// [grant.revoked token.issued]
}

// Grantex waits ten seconds, so longer work belongs in a queue. The queue must survive a
// crash: after a 200, Grantex doesn't send the event again.
func ExampleDispatcher_Dispatch() {
	v, err := grantexhook.NewVerifier(exampleSecret, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	queue := make(chan []byte, 1) // in place of a durable one
	deliver(v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		queue <- body
	})), exampleSecret, revoked)
	close(queue)

	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		fmt.Printf("slow work for %q\n", e.Data.GrantID)
		return nil
	})
	for body := range queue {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // without it, Dispatch allows 9 seconds
		fmt.Println(d.Dispatch(ctx, body))
		cancel()
	}
	// Output:
	// 200 OK
	// slow work for "grnt_1"
	// <nil>
}

// Other handles the events whose type has no handler.
func ExampleDispatcher_other() {
	d := grantexhook.Dispatcher{
		Other: func(ctx context.Context, e grantexhook.RawEvent) error {
			fmt.Printf("%q %q\n", e.Type, e.Data)
			return nil
		},
	}
	err := d.Dispatch(context.Background(), []byte(`{"id":"evt_4","type":"budget.exceeded","data":{"limit":5}}`))
	fmt.Println(err)
	// Output:
	// "budget.exceeded" "{\"limit\":5}"
	// <nil>
}

// Trace is called for each event, and the function that it returns gets the outcome.
func ExampleDispatcher_trace() {
	var mu sync.Mutex
	counts := map[string]int{} // in place of a metric
	d := grantexhook.Dispatcher{
		Trace: func(ctx context.Context, id, eventType string, createdAt time.Time) (context.Context, func(string, error)) {
			return ctx, func(outcome string, err error) {
				mu.Lock()
				defer mu.Unlock()
				counts[outcome]++
			}
		},
	}
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil })
	for _, body := range []string{revoked, revoked, issued, "not JSON"} {
		d.Dispatch(context.Background(), []byte(body))
	}
	fmt.Println(counts)
	// Output:
	// map[duplicate:1 handled:1 ignored:1 malformed:1]
}

// A Secret can be part of a configuration that is logged.
func ExampleSecret() {
	var config struct {
		WebhookSecret grantexhook.Secret
	}
	err := json.Unmarshal([]byte(`{"WebhookSecret": "`+exampleSecret+`"}`), &config)
	fmt.Println(err)

	fmt.Printf("%+v\n", config)
	text, err := json.Marshal(config)
	fmt.Println(string(text), err)

	_, err = grantexhook.NewVerifier(string(config.WebhookSecret), nil)
	fmt.Println(err)
	// Output:
	// <nil>
	// {WebhookSecret:[redacted]}
	// {"WebhookSecret":"[redacted]"} <nil>
	// <nil>
}
