package grants_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestContextFails checks that the context has ended with the same error, and that
// calling its CancelFunc is harmless.
func TestContextFails(t *testing.T) {
	tests := []struct {
		name     string
		id       string
		question http.HandlerFunc
		err      error
	}{
		{"unknown", "grnt_1", nil, grants.ErrEnded},
		{"revoked", "grnt_1", reply(200, strings.ReplaceAll(activeGrant("grnt_1"), `"active"`, `"revoked"`)), grants.ErrEnded},
		{"empty ID", "", nil, grants.ErrEnded},
		{"too long an ID", strings.Repeat("x", 129), nil, grants.ErrEnded},
		{"server error", "grnt_1", reply(503, ""), grants.ErrStale},
		{"silence", "grnt_1", hang, grants.ErrStale},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := newWorld(t, grants.Options{NoStream: true, Log: log.log()})
				w.serve(tt.question, tt.id)
				ctx, cancel, err := w.cache.Context(t.Context(), tt.id)
				require.ErrorIs(t, err, tt.err)
				require.ErrorIs(t, ctx.Err(), context.Canceled)
				cancel()
				cancel()
				require.Equal(t, err, context.Cause(ctx))
				status := w.cache.Status()
				require.Zero(t, status.Contexts)
				require.Zero(t, status.Grants, "what was made for the Context is gone")
			})
		})
	}
}

// TestContextOfEndedContext checks a grant that memory knows and another that it
// doesn't, for a caller that has left.
func TestContextOfEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		require.NoError(t, cache.Check(t.Context(), "grnt_known"))
		d.questions()
		left := errors.New("the caller has left")
		parent, leave := context.WithCancelCause(t.Context())
		leave(left)

		ctx, cancel, err := cache.Context(parent, "grnt_unknown")
		require.ErrorIs(t, err, grants.ErrStale)
		require.ErrorIs(t, err, left)
		require.Equal(t, left, context.Cause(ctx))
		cancel()
		ctx, cancel, err = cache.Context(parent, "grnt_known")
		require.NoError(t, err)
		require.Equal(t, left, context.Cause(ctx))
		cancel()
		require.Zero(t, cache.Status().Contexts)
		list, _ := d.questions()
		require.Empty(t, list)
	})
}

// TestContextCancel checks that a CancelFunc ends only its own context, whenever it's
// called, and that a Context whose parent has ended is closed without it.
func TestContextCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, cache := newDesk(t, grants.Options{}, nil)
		parent, leave := context.WithCancel(t.Context())
		var contexts [3]context.Context
		var cancels [3]context.CancelFunc
		for i, p := range []context.Context{t.Context(), parent, t.Context()} {
			var err error
			contexts[i], cancels[i], err = cache.Context(p, "grnt_1")
			require.NoError(t, err)
		}
		require.Equal(t, 3, cache.Status().Contexts)
		cancels[0]()
		cancels[0]()
		require.Equal(t, context.Canceled, context.Cause(contexts[0]))
		require.NoError(t, contexts[1].Err())
		require.NoError(t, contexts[2].Err())
		require.Equal(t, 2, cache.Status().Contexts)
		leave()
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, cache.Status().Contexts)
		cancels[1]()
		require.NoError(t, contexts[2].Err())
		cache.MarkEnded("grnt_1")
		require.Equal(t, grants.ErrEnded, context.Cause(contexts[2]))
		cancels[2]()
		cancels[2]()
		require.Equal(t, grants.ErrEnded, context.Cause(contexts[2]))
		require.Zero(t, cache.Status().Contexts)
	})
}
