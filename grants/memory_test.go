package grants_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestUntoldStays checks that a grant that has ended isn't dropped before Ended has
// succeeded, and that it stays ended meanwhile, however long that takes.
func TestUntoldStays(t *testing.T) {
	for _, every := range []time.Duration{0, -1} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var works atomic.Bool
				var told []string
				w := newWorld(t, grants.Options{NoStream: true, Every: every, Log: slog.New(slog.DiscardHandler),
					Ended: func(_ context.Context, ids []string) error {
						if !works.Load() {
							return errors.New("down")
						}
						told = append(told, ids...)
						return nil
					}})
				id := w.grant()
				w.cache.Watch(id)
				w.run()
				require.NoError(t, w.cache.Check(t.Context(), id))
				time.Sleep(time.Hour) // sweeps and lists come by while it's active
				w.Revoke(id)
				w.cache.MarkEnded(id)
				time.Sleep(time.Hour) // and after it ended
				require.Equal(t, 1, w.cache.Status().Untold)
				w.serve(reply(200, activeGrant(id)), id)
				require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
				works.Store(true)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.Equal(t, []string{id}, told)
			})
		})
	}
}

// TestWatchedStays checks that without lists a watched grant stays known through a long
// outage, and that Ended is called with it if it's gone afterwards.
func TestWatchedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		d, cache := newDesk(t, grants.Options{Every: -1, Ended: func(_ context.Context, ids []string) error {
			told = append(told, ids...)
			return nil
		}}, nil)
		d.turn(nil, failing)
		cache.Watch("grnt_held")
		runUntilTheEnd(t, cache)
		time.Sleep(time.Hour)
		d.turn(nil, says(0, http.StatusNotFound, `{"code":"NOT_FOUND"}`))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"grnt_held"}, told)
	})
}

// TestWatchIsKnowledge checks that a list that was asked for after Watch ends a watched
// grant, but a list that was in flight doesn't.
func TestWatchIsKnowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		d.turn(says(time.Second, http.StatusOK, listOf(nil)), nil)
		first := make(chan error)
		go func() { first <- cache.Sync(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		cache.Watch("grnt_held")
		require.NoError(t, <-first)
		require.NoError(t, cache.Check(t.Context(), "grnt_held"), "the list is older")
		list, _ := d.questions()
		require.Len(t, list, 1)
		require.NoError(t, cache.Sync(t.Context()))
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_held"), grants.ErrEnded)

		cache.Watch("grnt_unasked")
		require.NoError(t, cache.Sync(t.Context()))
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_unasked"), grants.ErrEnded)
		list, _ = d.questions()
		require.Empty(t, list)
	})
}

// TestPlacesAfterFailures checks that one question alone tries again after failures,
// that all eight places come back once it succeeds, and that back-off begins anew.
func TestPlacesAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		together := func(prefix string) (most int) {
			d.questions()
			var herd crowd
			for i := range 40 {
				herd.check(t.Context(), cache, prefix+strconv.Itoa(i))
			}
			herd.Wait()
			_, most = d.questions()
			return most
		}
		for i := range 5 {
			d.turn(nil, failing)
			require.Equal(t, max(1, 8-8*i), together("grnt_failing"))
			time.Sleep(20 * time.Second)
		}
		d.turn(nil, answers(50*time.Millisecond))
		require.NoError(t, cache.Check(t.Context(), "grnt_first"))
		require.Equal(t, 8, together("grnt_fresh"))
		d.turn(nil, failing)
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_again"), grants.ErrStale)
		d.turn(nil, answers(0))
		time.Sleep(1250 * time.Millisecond)
		require.NoError(t, cache.Check(t.Context(), "grnt_again"), "the first back-off is the shortest")
	})
}

// TestIdle checks that without lists a grant stays in memory while it's checked at least
// once in MaxAge, and is dropped after that. Every other check is a hit, which memory
// doesn't notice.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true, Every: -1})
		used, idle := w.grant(), w.grant()
		w.run()
		require.NoError(t, w.cache.Check(t.Context(), idle))
		for range 20 {
			require.NoError(t, w.cache.Check(t.Context(), used))
			time.Sleep(200 * time.Second)
			require.NotZero(t, w.cache.Status().Grants)
		}
		require.Equal(t, 1, w.cache.Status().Grants)
	})
}

// TestListSilence checks that a list without progress is given up after 30 seconds, at
// its beginning and amid its elements, and that one with progress isn't.
func TestListSilence(t *testing.T) {
	amid := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write([]byte(`{"grants":[` + activeGrant("grnt_1")))
		_ = http.NewResponseController(rw).Flush()
		hang(rw, r)
	}
	tests := []struct {
		name  string
		serve http.HandlerFunc
		after time.Duration
		err   string
	}{
		{"no response", hang, 30 * time.Second, "no progress for 30s"},
		{"silent amid", amid, 30 * time.Second, "no progress for 30s"},
		{"slow", trickle(3), 3 * 29 * time.Second, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, grants.Options{NoStream: true})
				w.serve(tt.serve, "list")
				start := time.Now()
				err := w.cache.Sync(t.Context())
				require.Equal(t, tt.after, time.Since(start))
				if tt.err == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, tt.err)
			})
		})
	}
}
