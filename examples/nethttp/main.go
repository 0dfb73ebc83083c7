// Command nethttp receives Grantex webhooks with net/http.
package main

import (
	"cmp"
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"grantex.dev/grantexhook"
)

func main() {
	h, err := handler(os.Getenv("GRANTEX_WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	s := &http.Server{Addr: cmp.Or(os.Getenv("ADDR"), ":8080"), Handler: h, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(s.ListenAndServe())
}

func handler(secret string) (http.Handler, error) {
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		return nil, err
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
		log.Printf("grant %q: agent %q may use %q", e.Data.GrantID, e.Data.AgentID, e.Data.Scopes)
		return nil // handled; after an error, Grantex retries
	})
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		log.Printf("grant %q: revoked, descendants included: %t", e.Data.GrantID, e.Data.Cascade)
		return nil
	})
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
		log.Printf("grant %q: token %q is valid until %v", e.Data.GrantID, e.Data.TokenID, e.Data.ExpiresAt)
		return nil
	})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))
	return mux, nil
}
