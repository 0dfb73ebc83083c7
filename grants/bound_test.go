package grants_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestContextEndsWithinMaxAge checks the bound for every phase of the looks, one of
// which may find the proof a moment too young.
func TestContextEndsWithinMaxAge(t *testing.T) {
	down := func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) }
	for phase := range 10 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, grants.Options{MaxAge: 10 * time.Second, NoStream: true, Log: slog.New(slog.DiscardHandler)})
			id, other := w.grant(), w.grant()
			require.NoError(t, w.cache.Sync(t.Context()))
			start := time.Now()
			w.on = map[string]http.HandlerFunc{"list": down, id: down, other: down}
			w.run()
			time.Sleep(time.Duration(phase) * 100 * time.Millisecond)
			_, cancel, err := w.cache.Context(t.Context(), other) // which begins the looks
			require.NoError(t, err)
			defer cancel()
			ctx, cancel, err := w.cache.Context(t.Context(), id)
			require.NoError(t, err)
			defer cancel()
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), grants.ErrStale)
			require.LessOrEqual(t, time.Since(start), 10*time.Second)
			require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrStale)
		})
	}
}

// TestStreamBeginsWithAList checks that what was missed before the stream stood doesn't
// wait for the next list.
func TestStreamBeginsWithAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{})
		w.run()
		time.Sleep(45 * time.Second)
		require.True(t, w.cache.Status().Connected)
		require.ElementsMatch(t, []string{"list", "stream", "list"}, w.requests())
	})
}
