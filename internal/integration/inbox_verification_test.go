package integration

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/riverinbox"
)

// The test checks that VerificationFrom works between the middleware and the inbox,
// but not in handlers behind the inbox.
func TestInboxLosesTheVerification(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		type seen struct {
			grantexhook.Verification
			ok bool
		}
		inside, behind := make(chan seen, 1), make(chan seen, 1)
		in := newInbox(t, p, func(ctx context.Context, _ []byte) error {
			v, ok := grantexhook.VerificationFrom(ctx)
			behind <- seen{v, ok}
			return nil
		}, riverinbox.Options{})
		in.start(t)
		v, err := grantexhook.NewVerifier("the new secret", &grantexhook.Options{PreviousSecrets: []string{inboxSecret}, RequireTimestamp: true})
		require.NoError(t, err)
		srv := httptest.NewServer(in.Handler(func(next http.Handler) http.Handler {
			return v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				v, ok := grantexhook.VerificationFrom(r.Context())
				inside <- seen{v, ok}
				next.ServeHTTP(w, r)
			}))
		}))
		defer srv.Close()
		status, _, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody("evt_1", "grnt_1"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		got := <-inside
		require.True(t, got.ok)
		require.Equal(t, 1, got.SecretIndex)
		require.WithinDuration(t, time.Now(), got.SentAt, time.Minute)
		select {
		case got := <-behind:
			require.Zero(t, got)
		case <-time.After(20 * time.Second):
			require.Fail(t, "the event wasn't handled")
		}
	})
}

// A middleware between the Verifier and the inbox counts deliveries that are still
// signed with the old secret. Once the count stays the same, you can drop the secret.
func Example_inboxObservesTheVerification() {
	v, err := grantexhook.NewVerifier("the new secret", &grantexhook.Options{PreviousSecrets: []string{"the old secret"}})
	if err != nil {
		log.Fatal(err)
	}
	var previous atomic.Int64
	verify := func(next http.Handler) http.Handler {
		return v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if verification, ok := grantexhook.VerificationFrom(r.Context()); ok && verification.SecretIndex > 0 {
				previous.Add(1)
			}
			next.ServeHTTP(w, r)
		}))
	}

	dir, err := os.MkdirTemp("", "inbox-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", sqliteDSN(filepath.Join(dir, "inbox.db")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var d grantexhook.Dispatcher
	inbox, err := riverinbox.New(riversqlite.New(db), d.Dispatch, &riverinbox.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	if err := inbox.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	handler := inbox.Handler(verify)

	for id, secret := range []string{"the old secret", "the new secret"} {
		body := eventBody(fmt.Sprint("evt_", id), "grnt_1")
		r := httptest.NewRequest(http.MethodPost, "/webhooks/grantex", bytes.NewReader(body))
		grantexhook.Sign(r.Header, secret, body, time.Now())
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body, "with the old secret so far:", previous.Load())
	}
	// Output:
	// 200 stored with the old secret so far: 1
	// 200 stored with the old secret so far: 1
}
