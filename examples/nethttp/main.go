// Command nethttp receives the webhooks of Grantex with net/http.
package main

import (
	"cmp"
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"grantex.dev/grantexhook"
)

func main() {
	v, err := grantexhook.NewVerifier(os.Getenv("GRANTEX_WEBHOOK_SECRET"), &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		log.Fatal(err)
	}

	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
		log.Printf("grant %q: agent %q may use %q", e.Data.GrantID, e.Data.AgentID, e.Data.Scopes)
		return nil // handled; an error would make Grantex try again
	})
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		log.Printf("grant %q: revoked, delegated grants too: %t", e.Data.GrantID, e.Data.Cascade)
		return nil
	})
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
		log.Printf("grant %q: token %q until %v", e.Data.GrantID, e.Data.TokenID, e.Data.ExpiresAt)
		return nil
	})

	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))
	serve(&http.Server{
		Addr:              cmp.Or(os.Getenv("ADDR"), ":8080"),
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      25 * time.Second, // longer than reading, handling and telling the Store may take
		IdleTimeout:       2 * time.Minute,
	})
}

// serve runs s until the process is told to stop, and lets handlers finish.
func serve(s *http.Server) {
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	stopped := make(chan error)
	go func() {
		<-stop.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		stopped <- s.Shutdown(ctx)
	}()
	log.Printf("listening on %s", s.Addr)
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
}
