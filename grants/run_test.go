package grants_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestRunTwice checks that a second Run is an error and leaves the first alone, and that
// Run works again after it has ended.
func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{})
		for range 2 {
			stop := w.run()
			synctest.Wait()
			require.Equal(t, 1, count(w.requests(), "list"))
			require.EqualError(t, w.cache.Run(t.Context()), "grants: Run is already running; call it once for each Cache")
			time.Sleep(40 * time.Second)
			require.True(t, w.cache.Status().Connected)
			stop()
			require.False(t, w.cache.Status().Connected)
			w.requests()
			time.Sleep(time.Hour)
			require.Empty(t, w.requests())
		}
	})
}

// TestRunEnds checks that everything in flight ends with Run, and what those who wait
// for it get, and that the Cache works on without Run.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		w := newWorld(t, grants.Options{Log: log.log()})
		id := w.grant()
		w.serve(hang, "list", "stream", id)
		stop := w.run()
		checked, synced := make(chan error, 1), make(chan error, 1)
		go func() { synced <- w.cache.Sync(t.Context()) }()
		go func() { checked <- w.cache.Check(t.Context(), id) }()
		time.Sleep(6 * time.Second) // no longer waiting for the list
		require.ElementsMatch(t, []string{"list", "stream", id}, w.requests())
		start := time.Now()
		stop()
		require.ErrorIs(t, <-checked, grants.ErrStale)
		require.ErrorIs(t, <-synced, context.Canceled)
		require.Zero(t, time.Since(start))
		require.NoError(t, w.cache.Status().Err)
		require.Empty(t, log.about(""))
		w.serve(nil, "list", id)
		require.NoError(t, w.cache.Check(t.Context(), id))
		require.NoError(t, w.cache.Sync(t.Context()))
	})
}

// TestRunWithEndedContext checks that Run returns at once, and that it may be called
// again.
func TestRunWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		require.NoError(t, w.cache.Run(ctx))
		require.Zero(t, time.Since(start))
		w.run()
		require.NoError(t, w.cache.Sync(t.Context()))
	})
}

func count(all []string, what string) (n int) {
	for _, s := range all {
		if s == what {
			n++
		}
	}
	return n
}
