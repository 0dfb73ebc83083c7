package grants_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// TestRevocationInOrder checks that a grant is refused before its Context ends, that its
// Context has ended before Ended is called, and how long it takes until then.
func TestRevocationInOrder(t *testing.T) {
	lose := func(grantexhook.RawEvent, string) []time.Duration { return nil }
	none := grants.Options{NoStream: true, Every: -1}
	tests := []struct {
		name string
		opts grants.Options
		end  func(w *world, id string)
		took time.Duration // at most
	}{
		{"by the stream", grants.Options{}, func(w *world, id string) { w.Revoke(id) }, 0},
		{"by an event for another way", grants.Options{}, func(w *world, id string) { w.RevokeBy("anomaly.auto_revoked", id) }, 0},
		{"by an event that doesn't name it", grants.Options{}, func(w *world, id string) { w.RevokeBy("consent_bundle.revoked", id) }, 5500 * time.Millisecond},
		{"by a webhook", none, func(w *world, id string) {
			require.NoError(w, w.cache.Revoked(w.Context(), grantexhook.Event[grantexhook.GrantRevoked]{Data: grantexhook.GrantRevoked{GrantID: id}}))
		}, 0},
		{"by another process", none, func(w *world, id string) { w.cache.MarkEnded(id) }, 0},
		{"by Sync", none, func(w *world, id string) {
			w.Revoke(id)
			require.NoError(w, w.cache.Sync(w.Context()))
		}, 0},
		{"by the next list", grants.Options{}, func(w *world, id string) {
			w.Schedule(lose)
			w.Revoke(id)
		}, time.Minute},
		{"by a question", none, func(w *world, id string) { w.Revoke(id) }, 151 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open context.Context
				var w *world
				var id string
				told := make(chan telling, 1)
				tt.opts.Ended = func(ctx context.Context, ids []string) error {
					told <- telling{ids, context.Cause(open), w.cache.Check(ctx, id), time.Now()}
					return nil
				}
				w = newWorld(t, tt.opts)
				id = w.grant()
				w.run()
				time.Sleep(45 * time.Second) // the stream stands, and a list has come
				open = w.watchContext(id)
				start := time.Now()
				tt.end(w, id)
				got := <-told
				require.Equal(t, []string{id}, got.ids)
				require.ErrorIs(t, got.cause, grants.ErrEnded)
				require.ErrorIs(t, got.check, grants.ErrEnded)
				require.LessOrEqual(t, got.at.Sub(start), tt.took)
			})
		})
	}
}

// A telling is what was true when Ended was called.
type telling struct {
	ids   []string
	cause error // of the Context
	check error
	at    time.Time
}

// watchContext opens a Context, and checks when it ends that the grant is refused.
func (w *world) watchContext(id string) context.Context {
	w.Helper()
	ctx, cancel, err := w.cache.Context(w.Context(), id)
	require.NoError(w, err)
	checked := make(chan error, 1)
	context.AfterFunc(ctx, func() { checked <- w.cache.Check(context.Background(), id) })
	w.Cleanup(func() {
		cancel()
		require.ErrorIs(w, <-checked, grants.ErrEnded)
	})
	return ctx
}

// BenchmarkRevocation measures how long it takes from a revocation until the grant is
// refused and its Context has ended, over a real connection.
func BenchmarkRevocation(b *testing.B) {
	api := hooktest.NewAPI()
	defer api.Close()
	server := httptest.NewServer(api)
	defer server.Close()
	cache, err := grants.New(&grantexapi.Client{APIKey: "gx_test_1", BaseURL: server.URL}, nil)
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- cache.Run(ctx) }()
	for !cache.Status().Connected { // an event comes before the first keepalive
		api.Create(grantexhook.GrantCreated{})
		time.Sleep(10 * time.Millisecond)
	}
	var total, longest time.Duration
	for b.Loop() {
		id := api.Create(grantexhook.GrantCreated{}).GrantID
		open, cancel, err := cache.Context(ctx, id)
		require.NoError(b, err)
		start := time.Now()
		api.Revoke(id)
		<-open.Done()
		err = cache.Check(ctx, id)
		took := time.Since(start)
		require.ErrorIs(b, err, grants.ErrEnded)
		cancel()
		total, longest = total+took, max(longest, took)
	}
	b.ReportMetric(total.Seconds()*1000/float64(b.N), "ms/revocation")
	b.ReportMetric(longest.Seconds()*1000, "ms-longest")
	stop()
	require.NoError(b, <-done)
}
