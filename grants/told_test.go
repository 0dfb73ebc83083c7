package grants_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grants"
)

// A register stands for what a service holds. It records the calls of Ended.
type register struct {
	mu     sync.Mutex
	fail   func() error // nil if it succeeds
	takes  time.Duration
	calls  [][]string
	at     []time.Time
	inside int
	most   int
}

func (r *register) end(_ context.Context, ids []string) error {
	r.mu.Lock()
	r.calls, r.at = append(r.calls, slices.Clone(ids)), append(r.at, time.Now())
	r.inside++
	r.most = max(r.most, r.inside)
	fail, takes := r.fail, r.takes
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inside--
	}()
	time.Sleep(takes)
	if fail != nil {
		return fail()
	}
	return nil
}

// become replaces what Ended returns and how long it takes.
func (r *register) become(fail func() error, takes time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail, r.takes = fail, takes
}

// take returns the calls since the last take, and when they came.
func (r *register) take() (calls [][]string, at []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls, at = r.calls, r.at
	r.calls, r.at = nil, nil
	return calls, at
}

var errDown = errors.New("the database is down")

// endedFailures are the ways in which Ended can fail.
var endedFailures = []struct {
	name string
	fail func() error
	text string
	is   func(error) bool
}{
	{"error", func() error { return errDown }, errDown.Error(), func(err error) bool { return errors.Is(err, errDown) }},
	{"panic", func() error { panic("no database") }, "panicked: no database", func(err error) bool {
		p, ok := errors.AsType[*grantexhook.PanicError](err)
		return ok && p.Value == "no database" && strings.Contains(string(p.Stack), "told_test.go")
	}},
	{"panic with an error", func() error { panic(errDown) }, "panicked: " + errDown.Error(), func(err error) bool { return errors.Is(err, errDown) }},
}

// TestEndedFails checks that Run retries with back-off, with what has ended meanwhile,
// and logs the problem once when it begins and once when it's over.
func TestEndedFails(t *testing.T) {
	for _, tt := range endedFailures {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				r := &register{fail: tt.fail}
				w := newWorld(t, grants.Options{NoStream: true, Log: log.log(), Ended: r.end})
				w.run()
				w.cache.MarkEnded("grnt_1")
				time.Sleep(500 * time.Millisecond)
				require.True(t, tt.is(w.cache.Status().Err))
				w.cache.MarkEnded("grnt_2")
				time.Sleep(10 * time.Minute)
				calls, at := r.take()
				require.Equal(t, []string{"grnt_1"}, calls[0])
				for i, ids := range calls[1:] {
					require.Equal(t, []string{"grnt_1", "grnt_2"}, ids)
					wait, least := at[i+1].Sub(at[i]), min(time.Minute, time.Second<<i)
					require.GreaterOrEqual(t, wait, least)
					require.LessOrEqual(t, wait, min(time.Minute, least*5/4))
				}
				require.GreaterOrEqual(t, len(calls), 6+8)
				require.Equal(t, 2, w.cache.Status().Untold)
				lines := log.about("Options.Ended")
				require.Len(t, lines, 1)
				require.Contains(t, lines[0], loud)
				require.Contains(t, lines[0], tt.text)
				_, panicked := errors.AsType[*grantexhook.PanicError](w.cache.Status().Err)
				require.Equal(t, panicked, strings.Contains(lines[0], "told_test.go"), "the stack")

				r.become(nil, 0)
				time.Sleep(time.Minute)
				calls, _ = r.take()
				require.Equal(t, []string{"grnt_1", "grnt_2"}, calls[len(calls)-1])
				require.Zero(t, w.cache.Status().Untold)
				require.NoError(t, w.cache.Status().Err)
				require.Len(t, log.about("INFO msg=\"grants: works again: Options.Ended"), 1)

				r.become(tt.fail, 0)
				w.cache.MarkEnded("grnt_3")
				time.Sleep(3 * time.Second)
				calls, at = r.take()
				require.Len(t, calls, 2)
				require.LessOrEqual(t, at[1].Sub(at[0]), 1250*time.Millisecond, "back-off begins anew")
				require.Len(t, log.about("Options.Ended"), 1)
			})
		})
	}
}

// TestEndedBatches checks that a call gets at most 1,000 IDs, that a batch that failed
// comes again, and that those that succeeded don't.
func TestEndedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		r := &register{}
		calls := 0
		r.fail = func() error {
			if calls++; calls == 2 {
				return errDown
			}
			return nil
		}
		w := newWorld(t, grants.Options{NoStream: true, Log: log.log(), Ended: r.end})
		ids := herdOf(2500)
		w.cache.MarkEnded(ids...)
		w.run()
		time.Sleep(2 * time.Second)
		got, _ := r.take()
		require.Equal(t, [][]string{ids[:1000], ids[1000:2000], ids[1000:2000], ids[2000:]}, got)
	})
}

// TestEndedOnceAtATime checks that calls from Revoked and from Run never overlap, that a
// Revoked that waits gives up with its context, and that another succeeds without a call
// if the grant is reported meanwhile.
func TestEndedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &register{takes: 10 * time.Second}
		w := newWorld(t, grants.Options{NoStream: true, Ended: r.end})
		w.run()
		w.cache.MarkEnded("grnt_1", "grnt_2")
		synctest.Wait()
		impatient, leave := context.WithTimeoutCause(t.Context(), time.Second, errDown)
		defer leave()
		require.Equal(t, errDown, w.cache.Revoked(impatient, revoked("grnt_1", false)))
		var wait sync.WaitGroup
		for _, id := range []string{"grnt_1", "grnt_2", "grnt_3"} {
			wait.Go(func() { require.NoError(t, w.cache.Revoked(t.Context(), revoked(id, false))) })
		}
		wait.Wait()
		calls, _ := r.take()
		require.Equal(t, [][]string{{"grnt_1", "grnt_2"}, {"grnt_3"}}, calls)
		require.Equal(t, 1, r.most)
	})
}

// TestEndedMayCall checks that Ended may call the Cache.
func TestEndedMayCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var calls [][]string
		w = newWorld(t, grants.Options{NoStream: true, Ended: func(ctx context.Context, ids []string) error {
			calls = append(calls, ids)
			require.ErrorIs(t, w.cache.Check(ctx, ids[0]), grants.ErrEnded)
			_, cancel, err := w.cache.Context(ctx, ids[0])
			require.ErrorIs(t, err, grants.ErrEnded)
			cancel()
			w.cache.MarkEnded("grnt_next")
			w.cache.Watch("grnt_watched")
			require.Positive(t, w.cache.Status().Untold)
			return w.cache.Sync(ctx)
		}})
		w.run()
		w.cache.MarkEnded("grnt_1")
		synctest.Wait()
		require.Equal(t, []string{"grnt_1"}, calls[0])
		require.ElementsMatch(t, []string{"grnt_next", "grnt_watched"}, slices.Concat(calls[1:]...))
	})
}

// TestEndedWhenRunEnds checks that Run ends with its context, waits for Ended, and
// doesn't log its error as a problem, and that the grants are reported by the next Run.
func TestEndedWhenRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		slow := true
		var told []string
		w := newWorld(t, grants.Options{NoStream: true, Log: log.log(), Ended: func(ctx context.Context, ids []string) error {
			if slow {
				<-ctx.Done()
				time.Sleep(time.Second)
				return fmt.Errorf("ended: %w", context.Cause(ctx))
			}
			told = append(told, ids...)
			return nil
		}})
		stop := w.run()
		w.cache.MarkEnded("grnt_1")
		synctest.Wait()
		start := time.Now()
		stop()
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, w.cache.Status().Err)
		require.Empty(t, log.about(""))
		require.Equal(t, 1, w.cache.Status().Untold)
		slow = false
		w.run()
		synctest.Wait()
		require.Equal(t, []string{"grnt_1"}, told)
	})
}

func revoked(id string, cascade bool) grantexhook.Event[grantexhook.GrantRevoked] {
	return grantexhook.Event[grantexhook.GrantRevoked]{Data: grantexhook.GrantRevoked{GrantID: id, Cascade: cascade}}
}

// TestRevoked checks what an event does, and whether Run asks for a list because of it.
func TestRevoked(t *testing.T) {
	tests := []struct {
		name    string
		id      string
		cascade bool
		invalid bool
		list    bool
	}{
		{"one grant", "grnt_1", false, false, false},
		{"with others", "grnt_1", true, false, true},
		{"empty ID", "", false, true, true},
		{"too long an ID", strings.Repeat("x", 129), false, true, true},
		{"empty ID, with others", "", true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, grants.Options{NoStream: true})
				w.run()
				time.Sleep(6 * time.Second) // until the gap after the first list has passed
				w.requests()
				err := w.cache.Revoked(t.Context(), revoked(tt.id, tt.cascade))
				synctest.Wait()
				if tt.invalid {
					require.EqualError(t, err, "grants: a grant.revoked event has no valid grantId; Run asks for a list of all active grants instead")
					require.Empty(t, w.toldSoFar())
				} else {
					require.NoError(t, err)
					require.NoError(t, w.cache.Revoked(t.Context(), revoked(tt.id, tt.cascade)), "a duplicate")
					require.Equal(t, [][]string{{tt.id}}, w.toldSoFar())
					require.ErrorIs(t, w.cache.Check(t.Context(), tt.id), grants.ErrEnded)
				}
				require.Equal(t, tt.list, slices.Contains(w.requests(), "list"))
			})
		})
	}
}

// TestRevokedFails checks that the grant has ended although Ended fails, and that the
// next delivery calls it again. Run isn't called.
func TestRevokedFails(t *testing.T) {
	for _, tt := range endedFailures {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &register{fail: tt.fail}
				d, cache := newDesk(t, grants.Options{Ended: r.end}, nil)
				for range 2 {
					require.True(t, tt.is(cache.Revoked(t.Context(), revoked("grnt_1", false))))
					require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrEnded)
					require.Equal(t, 1, cache.Status().Untold)
				}
				r.become(nil, 0)
				require.NoError(t, cache.Revoked(t.Context(), revoked("grnt_1", false)))
				require.NoError(t, cache.Revoked(t.Context(), revoked("grnt_1", false)))
				calls, _ := r.take()
				require.Equal(t, [][]string{{"grnt_1"}, {"grnt_1"}, {"grnt_1"}}, calls)
				require.Zero(t, d.lists())
			})
		})
	}
}

// TestWithoutEnded checks that grants end without Options.Ended.
func TestWithoutEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, cache := newDesk(t, grants.Options{}, nil)
		require.NoError(t, cache.Revoked(t.Context(), revoked("grnt_1", false)))
		cache.MarkEnded("grnt_2", "", strings.Repeat("x", 129))
		cache.Watch("grnt_2", "", strings.Repeat("x", 129))
		for _, id := range []string{"grnt_1", "grnt_2"} {
			require.ErrorIs(t, cache.Check(t.Context(), id), grants.ErrEnded)
		}
		status := cache.Status()
		require.Zero(t, status.Untold)
		require.Zero(t, status.Grants)
	})
}
