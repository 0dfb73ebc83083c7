package grants_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		id := w.grant()
		require.NoError(t, w.cache.Check(t.Context(), id))
		require.NoError(t, w.cache.Check(t.Context(), id))
		require.Equal(t, []string{id}, w.requests())
		w.Revoke(id)
		require.NoError(t, w.cache.Check(t.Context(), id), "unknown here so far")
		time.Sleep(5 * time.Minute)
		require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
	})
}

func TestRunLearnsFromTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{})
		id := w.grant()
		w.run()
		require.NoError(t, w.cache.Sync(t.Context()))
		time.Sleep(40 * time.Second)
		require.True(t, w.cache.Status().Connected)
		ctx, cancel, err := w.cache.Context(t.Context(), id)
		require.NoError(t, err)
		defer cancel()
		w.Revoke(id)
		<-ctx.Done()
		require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
		synctest.Wait()
		require.Equal(t, [][]string{{id}}, w.told)
	})
}
