package grants_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// Tokens stands for your JWT library: it has the grant of each valid token.
type Tokens map[string]string

// GrantID returns the grant of a request's token. Yours verifies the signature, iss, aud,
// exp and dev, and returns the claim "grnt".
func (t Tokens) GrantID(r *http.Request) (string, error) {
	id, ok := t[r.Header.Get("Authorization")]
	if !ok {
		return "", errors.New("no valid token")
	}
	return id, nil
}

// An agent reads a stream when its grant is revoked. A webhook reports that. The stream
// ends, and the agent's next request is rejected.
func ExampleCache_Middleware() {
	api := hooktest.NewAPI() // in place of Grantex
	defer api.Close()
	cache, err := grants.New(&grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { cache.Run(ctx) })
	defer running.Wait()
	defer stop()

	const secret = "local_test_secret"
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		log.Fatal(err)
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, cache.Revoked)

	grant := api.Create(grantexhook.GrantCreated{})
	tokens := Tokens{"Bearer " + api.Token(grant.GrantID, ""): grant.GrantID}
	reading := make(chan bool, 1)
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))
	mux.Handle("GET /stream", cache.Middleware(tokens.GrantID)(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			reading <- true
			<-r.Context().Done()
			fmt.Println("the stream ends:", context.Cause(r.Context()))
		})))
	api.Endpoint(hooktest.Sender{Secret: secret, Handler: mux, Path: "/webhooks/grantex"}, d.Types()...)

	go func() {
		<-reading
		api.Revoke(grant.GrantID)
	}()
	for range 2 {
		r := httptest.NewRequest("GET", "/stream", nil)
		r.Header.Set("Authorization", "Bearer "+api.Token(grant.GrantID, ""))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%d %#q\n", w.Code, w.Header().Get("WWW-Authenticate"))
	}
	// Output:
	// the stream ends: grants: the grant has ended or doesn't exist
	// 200 ``
	// 401 `Bearer error="invalid_token", error_description="the grant has ended"`
}
