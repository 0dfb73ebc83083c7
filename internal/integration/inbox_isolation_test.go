package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/riverinbox"
)

// The test checks that deliveries aren't rejected if the database's default
// isolation level makes transactions conflict.
func TestInboxAtHigherIsolation(t *testing.T) {
	t.Parallel()
	const events, clients = 60, 8
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t, place{"pgx", postgres(t, map[string]string{"default_transaction_isolation": level})}, drop, riverinbox.Options{})
			in.start(t)
			srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
			defer srv.Close()
			var stored, duplicates, rejected atomic.Int64
			send := func(id int) {
				status, answer, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody(fmt.Sprint("evt_", id), "grnt_1"))
				switch {
				case err == nil && status == http.StatusOK && answer == "stored":
					stored.Add(1)
				case err == nil && status == http.StatusOK && answer == "duplicate":
					duplicates.Add(1)
				default:
					rejected.Add(1)
				}
			}
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for id := range events {
						send(id)
					}
				})
			}
			wg.Wait()
			require.Zero(t, rejected.Load(), "of %d", events*clients)
			require.EqualValues(t, events, stored.Load())
			require.EqualValues(t, events*(clients-1), duplicates.Load())
			require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == events }, time.Minute, 50*time.Millisecond)
		})
	}
}
