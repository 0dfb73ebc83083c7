// Command chi receives Grantex webhooks with the chi router and shuts down gracefully.
package main

import (
	"cmp"
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"grantex.dev/grantexhook"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	h, err := handler(os.Getenv("GRANTEX_WEBHOOK_SECRET"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), ":8080"))
	if err != nil {
		return err
	}
	log.Printf("listening on %s", l.Addr())
	return serve(ctx, l, h)
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
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Logger, middleware.Recoverer)
	r.With(v.Middleware).Method(http.MethodPost, "/webhooks/grantex", &d)
	return r, nil
}

// serve runs until ctx ends. Requests in flight then have 15 seconds to finish.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      25 * time.Second, // reading takes up to 10 s, handling 9 s and recording the outcome 2 s
		IdleTimeout:       2 * time.Minute,
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		stopped <- s.Shutdown(ctx)
	})()
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return <-stopped
}
