package grants_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestSyncShares checks that each Sync gets a list that was asked for after it was
// called, and that all that wait for the next share it.
func TestSyncShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		d.turn(says(time.Second, http.StatusOK, listOf(nil)), nil)
		var wait sync.WaitGroup
		start := time.Now()
		call := func(took time.Duration) {
			wait.Go(func() {
				require.NoError(t, cache.Sync(t.Context()))
				require.Equal(t, took, time.Since(start))
			})
		}
		call(time.Second)
		time.Sleep(time.Millisecond)
		for range 100 {
			call(2 * time.Second)
		}
		wait.Wait()
		require.Equal(t, 2, d.lists())
	})
}

// TestSyncGivenUp checks that Sync returns when its context ends, and that a list that
// nobody waits for isn't asked for.
func TestSyncGivenUp(t *testing.T) {
	tests := []struct {
		name  string
		leave int // of two that wait for the next list
		lists int
	}{
		{"both", 2, 1},
		{"one", 1, 2},
		{"neither", 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{}, nil)
				d.turn(says(time.Second, http.StatusOK, listOf([]string{"grnt_1"})), nil)
				parent, leave := context.WithCancelCause(t.Context())
				var wait sync.WaitGroup
				wait.Go(func() { require.NoError(t, cache.Sync(t.Context())) })
				synctest.Wait()
				for i := range 2 {
					wait.Go(func() {
						if i >= tt.leave {
							require.NoError(t, cache.Sync(t.Context()))
							return
						}
						require.Equal(t, errDown, cache.Sync(parent))
						require.Equal(t, 1, d.lists(), "returns before the next list is sent")
					})
				}
				synctest.Wait()
				leave(errDown)
				wait.Wait()
				require.Equal(t, errDown, cache.Sync(parent), "has ended already")
				require.Equal(t, tt.lists, d.lists())
				require.Equal(t, 1, cache.Status().Grants)
			})
		})
	}
}

// TestSyncWhoseCallerLeaves checks that a list that was sent is used all the same.
func TestSyncWhoseCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		d.turn(says(2*time.Second, http.StatusOK, listOf([]string{"grnt_1"})), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, cache.Sync(ctx), context.DeadlineExceeded)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, cache.Status().Grants)
	})
}

// TestListDuringSuspension checks that a list proves nothing if the machine was
// suspended for MaxAge while it came.
func TestListDuringSuspension(t *testing.T) {
	for _, d := range []time.Duration{4 * time.Minute, 5 * time.Minute} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer suspended.Store(0)
				var log logbook
				w := newWorld(t, grants.Options{NoStream: true, Log: log.log()})
				id := w.grant()
				w.serve(func(rw http.ResponseWriter, r *http.Request) {
					suspended.Store(int64(d))
					reply(200, listOf([]string{id}))(rw, r)
				}, "list")
				err := w.cache.Sync(t.Context())
				if d < 5*time.Minute {
					require.NoError(t, err)
					return
				}
				require.EqualError(t, err, "grants: listing the active grants: the list took longer than MaxAge; set Options.Every to a negative value if that's normal")
				require.Zero(t, w.cache.Status().Grants)
			})
		})
	}
}

// TestExpired checks that an expired grant in a list ends nothing, isn't counted, stays
// proved by lists while it's checked, and is dropped without a report.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		at := func(id string, expires time.Time) string {
			return strings.Replace(activeGrant(id), "2100-01-01T00:00:00.000Z", expires.UTC().Format(time.RFC3339Nano), 1)
		}
		w := newWorld(t, grants.Options{NoStream: true})
		w.serve(func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(rw, `{"grants":[%s,%s]}`, at("grnt_old", now.Add(-10*time.Minute-time.Nanosecond)), at("grnt_recent", time.Now().Add(-10*time.Minute)))
		}, "list")
		w.serve(reply(200, activeGrant("grnt_old")), "grnt_old")
		w.run()
		synctest.Wait()
		require.Equal(t, 1, w.cache.Status().Grants)
		w.requests()
		for range 20 {
			require.NoError(t, w.cache.Check(t.Context(), "grnt_old"))
			require.NoError(t, w.cache.Check(t.Context(), "grnt_recent"))
			time.Sleep(time.Minute)
		}
		require.Equal(t, 2, count(w.requests(), "grnt_old"), "once in twice MaxAge")
		require.Equal(t, 2, w.cache.Status().Grants)
		time.Sleep(12 * time.Minute)
		require.Equal(t, 1, w.cache.Status().Grants, "dropped")
		require.Empty(t, w.toldSoFar())
	})
}

// TestNotFoundBeforeAList checks a grant that isn't found while a list is in flight that
// has it. Either may be the newer, so the next check asks.
func TestNotFoundBeforeAList(t *testing.T) {
	for _, expires := range []string{"2100", "1999"} {
		t.Run(expires, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{Ended: (&register{}).end}, nil)
				notFound := says(0, http.StatusNotFound, `{"code":"NOT_FOUND"}`)
				d.turn(says(10*time.Second, http.StatusOK, strings.Replace(listOf([]string{"grnt_1"}), "2100", expires, 1)), notFound)
				synced := make(chan error)
				go func() { synced <- cache.Sync(t.Context()) }()
				time.Sleep(time.Second)
				require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrEnded)
				require.NoError(t, <-synced)
				require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrEnded)
				list, _ := d.questions()
				require.Len(t, list, 2)
				require.Equal(t, 1, cache.Status().Untold)
			})
		})
	}
}

// TestBeforeTheFirstList checks how long a check waits for the first list, and what it
// returns if something else happens meanwhile.
func TestBeforeTheFirstList(t *testing.T) {
	tests := []struct {
		name  string
		list  response
		end   func(c *grants.Cache, leave func())
		err   error
		after time.Duration
		asked int
	}{
		{"the list has it", says(4*time.Second, 200, listOf([]string{"grnt_1"})), nil, nil, 4 * time.Second, 0},
		{"the list lacks it", says(4*time.Second, 200, listOf(nil)), nil, nil, 4*time.Second + 50*time.Millisecond, 1},
		{"the list is late", says(6*time.Second, 200, listOf(nil)), nil, nil, 5*time.Second + 50*time.Millisecond, 1},
		{"it ends", silent, func(c *grants.Cache, _ func()) { c.MarkEnded("grnt_1") }, grants.ErrEnded, 5 * time.Second, 0},
		{"the caller leaves", silent, func(_ *grants.Cache, leave func()) { leave() }, grants.ErrStale, time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{}, nil)
				d.turn(tt.list, nil)
				runUntilTheEnd(t, cache)
				synctest.Wait()
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if tt.end != nil {
					time.AfterFunc(time.Second, func() { tt.end(cache, leave) })
				}
				start := time.Now()
				require.ErrorIs(t, cache.Check(ctx, "grnt_1"), tt.err)
				require.Equal(t, tt.after, time.Since(start))
				list, _ := d.questions()
				require.Len(t, list, tt.asked)
			})
		})
	}
}

// TestLateContext checks that a Context whose proof is older than half of MaxAge makes
// Run ask for the grant at once.
func TestLateContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		runUntilTheEnd(t, cache)
		require.NoError(t, cache.Check(t.Context(), "grnt_1"))
		open := func(asked int) {
			t.Helper()
			d.questions()
			ctx, cancel, err := cache.Context(t.Context(), "grnt_1")
			require.NoError(t, err)
			time.Sleep(100 * time.Millisecond)
			list, _ := d.questions()
			require.Len(t, list, asked)
			require.NoError(t, ctx.Err())
			cancel()
		}
		time.Sleep(149 * time.Second)
		open(0)
		time.Sleep(2 * time.Second)
		open(1)
		open(0)
	})
}
