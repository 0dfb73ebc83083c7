package grantexhook_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// Rotate without a restart: swap the Verifier while requests arrive, and keep the
// Dispatcher. The twin endpoint's copies of events that were handled may still arrive,
// and a new Dispatcher with a new MemoryStore wouldn't recognize them.
func Example_swapVerifier() {
	const oldSecret, newSecret = "the old secret", "the new secret"

	var current atomic.Pointer[grantexhook.Verifier]
	accept := func(secret string, previous ...string) error {
		v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{
			PreviousSecrets:  previous,
			RequireTimestamp: true,
			Log:              slog.New(slog.DiscardHandler),
		})
		if err == nil {
			current.Store(v)
		}
		return err
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		fmt.Printf("grant %q was revoked\n", e.Data.GrantID)
		return nil
	})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		current.Load().Middleware(&d).ServeHTTP(w, r)
	})

	// The service starts. Client.Rotate of package grantexapi creates a twin of its
	// endpoint, and both deliver an event.
	if err := accept(oldSecret); err != nil {
		fmt.Println(err)
		return
	}
	deliver(h, oldSecret, revoked)
	deliver(h, newSecret, revoked)

	// Swap right away, for example on SIGHUP. The twin's retry is a duplicate.
	if err := accept(newSecret, oldSecret); err != nil {
		fmt.Println(err)
		return
	}
	deliver(h, newSecret, revoked)
	deliver(h, oldSecret, issued)

	// Swap again when the old endpoint is deleted.
	if err := accept(newSecret); err != nil {
		fmt.Println(err)
		return
	}
	deliver(h, oldSecret, issued)
	// Output:
	// grant "grnt_1" was revoked
	// 200 OK
	// 401 Unauthorized
	// 200 OK
	// 200 OK
	// 401 Unauthorized
}

// TestRotateWithMemoryStore checks what the documentation says about a rotation:
// without a restart, events that come from both endpoints are handled once; after a
// restart, the twin's retries are handled again.
func TestRotateWithMemoryStore(t *testing.T) {
	const oldSecret, newSecret = "the old secret", "the new secret"
	tests := []struct {
		name    string
		restart bool
		handled int // of five events, each from two endpoints
	}{
		{"swap", false, 5},
		{"restart", true, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handled := 0
				newDispatcher := func() *grantexhook.Dispatcher {
					var d grantexhook.Dispatcher
					var mu sync.Mutex
					grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error {
						mu.Lock()
						defer mu.Unlock()
						handled++
						return nil
					})
					return &d
				}
				opts := grantexhook.Options{Log: slog.New(slog.DiscardHandler)}
				d := newDispatcher()
				var service atomic.Pointer[http.Handler]
				serve := func(secret string) {
					h := newVerifier(t, secret, &opts).Middleware(d)
					service.Store(&h)
				}
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*service.Load()).ServeHTTP(w, r) })

				var events []grantexhook.Payload
				for range 5 {
					events = append(events, hooktest.NewEvent(grantexhook.GrantRevoked{GrantID: "grnt_1"}))
				}
				serve(oldSecret)
				for _, report := range (hooktest.Sender{Secret: oldSecret, Handler: h}).DeliverAtOnce(t, events...) {
					require.Len(t, report, 1)
				}
				require.Equal(t, 5, handled)
				time.AfterFunc(10*time.Second, func() {
					if tt.restart {
						d = newDispatcher()
					}
					opts.PreviousSecrets = []string{oldSecret}
					serve(newSecret)
				})
				for _, report := range (hooktest.Sender{Secret: newSecret, Handler: h}).DeliverAtOnce(t, events...) {
					require.Len(t, report, 2)
					require.Equal(t, http.StatusUnauthorized, report[0].Status)
					require.Equal(t, http.StatusOK, report[1].Status)
				}
				require.Equal(t, tt.handled, handled)
			})
		})
	}
}
