package grants_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// answersLate is active after a second, and a question that's sent by then is in flight.
var answersLate = answers(time.Second)

// TestMarkLasts checks that a grant stays ended for MaxAge after the last report of it,
// without a question.
func TestMarkLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		runUntilTheEnd(t, cache)
		cache.MarkEnded("grnt_1")
		time.Sleep(4 * time.Minute)
		cache.MarkEnded("grnt_1")
		time.Sleep(4 * time.Minute)
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrEnded)
		list, _ := d.questions()
		require.Empty(t, list)
		time.Sleep(7 * time.Minute)
		require.NoError(t, cache.Check(t.Context(), "grnt_1"), "forgotten, and Grantex says it's active")
	})
}

// TestKnownSinceTheQuestion checks that a 404 ends only grants that were known before the
// question was sent: a grant may be created between the two.
func TestKnownSinceTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		d.turn(nil, says(time.Second, http.StatusNotFound, `{"code":"NOT_FOUND"}`))
		first := make(chan error)
		go func() { first <- cache.Check(t.Context(), "grnt_new") }()
		time.Sleep(500 * time.Millisecond)
		cache.Watch("grnt_new")
		require.ErrorIs(t, <-first, grants.ErrEnded)
		d.turn(nil, answers(0))
		require.NoError(t, cache.Check(t.Context(), "grnt_new"))
	})
}

// TestContextBeforeTheFirstList checks that Run doesn't ask for the grant of a Context
// that is waiting for the first list.
func TestContextBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		d.turn(says(4*time.Second, http.StatusOK, listOf([]string{"grnt_1"})), nil)
		runUntilTheEnd(t, cache)
		synctest.Wait()
		_, cancel, err := cache.Context(t.Context(), "grnt_1")
		require.NoError(t, err)
		defer cancel()
		list, _ := d.questions()
		require.Empty(t, list)
	})
}

// TestWatchedAreAskedFor checks when Run asks for a watched grant that no list has shown:
// at once without lists, and otherwise not before half of MaxAge has passed.
func TestWatchedAreAskedFor(t *testing.T) {
	for _, tt := range []struct {
		name        string
		every       time.Duration
		least, most time.Duration
	}{
		{"without lists", -1, 0, time.Second},
		{"while lists fail", 0, 150 * time.Second, 152 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{Every: tt.every}, nil)
				d.turn(failing, nil)
				time.Sleep(10 * time.Minute) // a Cache that is older than MaxAge
				runUntilTheEnd(t, cache)
				cache.Watch("grnt_1")
				start := time.Now()
				time.Sleep(tt.most + time.Second)
				list, _ := d.questions()
				require.Len(t, list, 1)
				require.GreaterOrEqual(t, list[0].at.Sub(start), tt.least)
				require.LessOrEqual(t, list[0].at.Sub(start), tt.most)
			})
		})
	}
}

// TestLongRetryAfter checks that a 429 silences questions for a minute at most.
func TestLongRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		d.turn(nil, says(0, http.StatusTooManyRequests, "", "Retry-After", "3600"))
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrStale)
		d.turn(nil, answers(0))
		time.Sleep(time.Minute - 1)
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_1"), grants.ErrStale)
		time.Sleep(time.Nanosecond)
		require.NoError(t, cache.Check(t.Context(), "grnt_1"))
	})
}

// TestWatchAfterTheReport checks that Ended is called again with a grant that is watched
// after it was reported: the service may have stored something for it since.
func TestWatchAfterTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		w.run()
		w.cache.MarkEnded("grnt_1")
		synctest.Wait()
		w.cache.Watch("grnt_1")
		synctest.Wait()
		require.Equal(t, [][]string{{"grnt_1"}, {"grnt_1"}}, w.toldSoFar())
	})
}

// TestFailuresTogether checks that questions that were in flight together and fail count
// as one failure, and that the success of one of them doesn't end the back-off.
func TestFailuresTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		d.turn(nil, answersLate)
		var slow crowd
		slow.check(t.Context(), cache, "grnt_slow")
		synctest.Wait()
		d.turn(nil, failing)
		var together crowd
		for _, id := range herdOf(7) {
			together.check(t.Context(), cache, id)
		}
		together.Wait()
		slow.Wait()
		require.Equal(t, 1, slow.passed)
		d.turn(nil, answersLate)
		time.Sleep(350 * time.Millisecond) // 1.25 s after the failures at most
		d.questions()
		var again crowd
		for _, id := range herdOf(7) {
			again.check(t.Context(), cache, id)
		}
		time.Sleep(500 * time.Millisecond)
		list, _ := d.questions()
		require.Len(t, list, 1, "alone until it succeeds")
		again.Wait()
		require.Equal(t, 7, again.passed)
	})
}

// TestGapsBetweenLists checks when an event gets its list: never within five times the
// last list's duration, nor during the back-off after a failure or a Retry-After.
func TestGapsBetweenLists(t *testing.T) {
	for _, tt := range []struct {
		name        string
		list        response
		least, most time.Duration // after the first list was asked for
	}{
		{"quick", says(0, http.StatusOK, listOf(nil)), 5 * time.Second, 5500 * time.Millisecond},
		{"slow", says(4*time.Second, http.StatusOK, listOf(nil)), 20 * time.Second, 22 * time.Second},
		{"failed", says(2*time.Second, http.StatusServiceUnavailable, ""), 7 * time.Second, 9 * time.Second},
		{"limited", says(0, http.StatusTooManyRequests, "", "Retry-After", "30"), 30 * time.Second, 31 * time.Second},
		{"limited for longer than Every", says(0, http.StatusTooManyRequests, "", "Retry-After", "3600"), time.Minute, 61 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{}, nil)
				d.turn(tt.list, nil)
				runUntilTheEnd(t, cache)
				synctest.Wait()
				require.Equal(t, 1, d.lists())
				require.NoError(t, cache.Revoked(t.Context(), revoked("grnt_parent", true)))
				time.Sleep(tt.least - 1)
				synctest.Wait()
				require.Equal(t, 1, d.lists())
				time.Sleep(tt.most - tt.least + 1)
				synctest.Wait()
				require.Equal(t, 2, d.lists())
			})
		})
	}
}

// TestNotFoundBeforeAnExpiredGrant checks that an older list doesn't prove an expired
// grant to a Context, after Grantex has said that there is no such grant.
func TestNotFoundBeforeAnExpiredGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		require.NoError(t, cache.Sync(t.Context()), "checks wait for the first")
		expired := strings.Replace(listOf([]string{"grnt_1"}), "2100", "1999", 1)
		d.turn(says(3*time.Second, http.StatusOK, expired), says(time.Second, http.StatusNotFound, `{"code":"NOT_FOUND"}`))
		synced := make(chan error)
		go func() { synced <- cache.Sync(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		first, second := make(chan error), make(chan error)
		go func() { first <- cache.Check(t.Context(), "grnt_1") }()
		time.Sleep(500 * time.Millisecond)
		d.turn(nil, says(3*time.Second, http.StatusNotFound, `{"code":"NOT_FOUND"}`))
		go func() {
			_, cancel, err := cache.Context(t.Context(), "grnt_1")
			cancel()
			second <- err
		}()
		require.ErrorIs(t, <-first, grants.ErrEnded)
		require.NoError(t, <-synced)
		require.ErrorIs(t, <-second, grants.ErrEnded, "asked again, since it came after the question")
	})
}
