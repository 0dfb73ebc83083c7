package grants_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
)

// A desk is a Grantex that counts what it's asked for. All grants are active.
type desk struct {
	mu       sync.Mutex
	listed   int
	asked    []asked
	underWay int
	most     int
	list     response
	question response
}

type response = func(ctx context.Context, id string) (*http.Response, error)

// An asked is a question about a grant.
type asked struct {
	id string
	at time.Time
}

// newDesk returns a Cache that asks a desk, which takes 50 ms to answer a question.
func newDesk(t *testing.T, opts grants.Options, grantIDs []string) (*desk, *grants.Cache) {
	t.Helper()
	d := &desk{list: says(0, http.StatusOK, listOf(grantIDs)), question: answers(50 * time.Millisecond)}
	opts.NoStream, opts.Log = true, slog.New(slog.DiscardHandler)
	c, err := grants.New(&grantexapi.Client{APIKey: "gx_test_1", HTTPClient: &http.Client{Transport: d}}, &opts)
	require.NoError(t, err)
	return d, c
}

// RoundTrip implements [http.RoundTripper].
func (d *desk) RoundTrip(req *http.Request) (*http.Response, error) {
	id, single := strings.CutPrefix(req.URL.Path, "/v1/grants/")
	return d.begin(id, single)(req.Context(), id)
}

func (d *desk) begin(id string, single bool) response {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !single {
		d.listed++
		return d.list
	}
	d.asked = append(d.asked, asked{id, time.Now()})
	d.underWay++
	d.most = max(d.most, d.underWay)
	f := d.question
	return func(ctx context.Context, id string) (*http.Response, error) {
		defer d.finish()
		return f(ctx, id)
	}
}

func (d *desk) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay--
}

// turn replaces how a desk answers. Nil keeps it.
func (d *desk) turn(list, question response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if list != nil {
		d.list = list
	}
	if question != nil {
		d.question = question
	}
}

// questions returns what was asked since the last call, and how much at once.
func (d *desk) questions() (list []asked, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list, most = d.asked, d.most
	d.asked, d.most = nil, d.underWay
	return list, most
}

func (d *desk) lists() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listed
}

func says(wait time.Duration, status int, body string, header ...string) response {
	return func(ctx context.Context, _ string) (*http.Response, error) {
		if !sleep(ctx, wait) {
			return nil, context.Cause(ctx)
		}
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}, nil
	}
}

func answers(wait time.Duration) response {
	return func(ctx context.Context, id string) (*http.Response, error) {
		return says(wait, http.StatusOK, activeGrant(id))(ctx, id)
	}
}

func silent(ctx context.Context, _ string) (*http.Response, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

var failing = says(50*time.Millisecond, http.StatusServiceUnavailable, "")

func activeGrant(id string) string {
	return fmt.Sprintf(`{"grantId":%q,"developerId":"dev_1","status":"active","expiresAt":"2100-01-01T00:00:00.000Z"}`, id)
}

func listOf(grantIDs []string) string {
	rows := make([]string, len(grantIDs))
	for i, id := range grantIDs {
		rows[i] = activeGrant(id)
	}
	return `{"grants":[` + strings.Join(rows, ",") + `]}`
}

func herdOf(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "grnt_" + strconv.Itoa(i)
	}
	return ids
}

// A crowd counts what its checks return.
type crowd struct {
	sync.WaitGroup
	mu                         sync.Mutex
	waiting, most              int
	passed, stale, atOnce, odd int // atOnce are stale without a wait
	slowest                    time.Duration
}

func (c *crowd) check(ctx context.Context, cache *grants.Cache, id string) {
	c.Go(func() {
		c.mu.Lock()
		c.waiting++
		c.mu.Unlock()
		start := time.Now()
		err := cache.Check(ctx, id)
		c.count(err, time.Since(start))
	})
}

func (c *crowd) count(err error, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting--
	c.slowest = max(c.slowest, took)
	switch {
	case err == nil:
		c.passed++
	case !errors.Is(err, grants.ErrStale):
		c.odd++
	case took == 0:
		c.atOnce++
	default:
		c.stale++
	}
}

// pause lets those that don't have to wait return, counts the others, and waits for d.
func (c *crowd) pause(d time.Duration) {
	synctest.Wait()
	c.mu.Lock()
	c.most = max(c.most, c.waiting)
	c.mu.Unlock()
	time.Sleep(d)
}

func runUntilTheEnd(t *testing.T, cache *grants.Cache) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cache.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// TestHerdOfStaleGrants checks how many of 10,000 checks ask at once, wait, and fail.
func TestHerdOfStaleGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := herdOf(10_000)
		d, cache := newDesk(t, grants.Options{}, ids)
		require.NoError(t, cache.Sync(t.Context()))
		time.Sleep(5 * time.Minute)
		var herd crowd
		for _, id := range ids {
			herd.check(t.Context(), cache, id)
		}
		herd.pause(0)
		herd.Wait()
		list, most := d.questions()
		require.Len(t, list, 8+256)
		require.Equal(t, 8+256, herd.most)
		require.Equal(t, 8, most)
		require.Equal(t, 8+256, herd.passed)
		require.Equal(t, 10_000-8-256, herd.atOnce)
		require.Equal(t, 33*50*time.Millisecond, herd.slowest)

		one := crowd{}
		fresh := "grnt_fresh"
		for range 10_000 {
			one.check(t.Context(), cache, fresh)
		}
		one.Wait()
		list, _ = d.questions()
		require.Len(t, list, 1, "for all who ask")
		require.Equal(t, 10_000, one.passed)
	})
}

// TestColdStart checks what 1,000 checks a second cost while the first list is on its
// way.
func TestColdStart(t *testing.T) {
	const second = 1000
	ids := herdOf(10 * second)
	tests := []struct {
		name      string
		list      response
		passed    int // at least
		questions int // at most
		waiting   int // at most
		slowest   time.Duration
	}{
		{"the list comes soon", says(3*time.Second, 200, listOf(ids)), 10 * second, 0, 3 * second, 3 * time.Second},
		// Those of the first three seconds ask, at 160 a second.
		{"the list comes late", says(8*time.Second, 200, listOf(ids)), 7 * second, 3*160 + 264, 5*second + 264, 7 * time.Second},
		{"the list fails", says(2*time.Second, 503, ""), 8 * 160, 8*160 + 264, 2*second + 264, 4 * time.Second},
		{"the list never comes", silent, 10 * 160, 10*160 + 264, 5*second + 264, 7 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{}, nil)
				d.turn(tt.list, nil)
				runUntilTheEnd(t, cache)
				synctest.Wait()
				var herd crowd
				for _, id := range ids {
					herd.check(t.Context(), cache, id)
					herd.pause(time.Second / second)
				}
				herd.Wait()
				list, most := d.questions()
				require.LessOrEqual(t, len(list), tt.questions)
				require.LessOrEqual(t, most, 8)
				require.LessOrEqual(t, herd.most, tt.waiting)
				require.LessOrEqual(t, herd.slowest, tt.slowest)
				require.GreaterOrEqual(t, herd.passed, tt.passed)
				require.Zero(t, herd.odd)
			})
		})
	}
}

// An audience holds Contexts open and counts those that were lost.
type audience struct {
	open []context.Context
}

func (a *audience) join(t *testing.T, cache *grants.Cache, id string) {
	ctx, cancel, err := cache.Context(t.Context(), id)
	require.NoError(t, err)
	t.Cleanup(cancel)
	a.open = append(a.open, ctx)
}

// lost counts the Contexts that have ended.
func (a *audience) lost() (n int) {
	for _, ctx := range a.open {
		if ctx.Err() != nil {
			n++
		}
	}
	return n
}

// TestContextsWhileListsFail checks that questions keep 2,000 Contexts open, from half
// of MaxAge on, and leave two places for checks.
func TestContextsWhileListsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := herdOf(2000)
		d, cache := newDesk(t, grants.Options{}, ids)
		runUntilTheEnd(t, cache)
		require.NoError(t, cache.Sync(t.Context()))
		start := time.Now()
		var a audience
		for _, id := range ids {
			a.join(t, cache, id)
		}
		d.turn(failing, nil)
		time.Sleep(150 * time.Second)
		list, _ := d.questions()
		require.Empty(t, list, "too early")
		twice := 0
		for i := range 6 * 60 {
			var fresh crowd
			fresh.check(t.Context(), cache, "grnt_fresh"+strconv.Itoa(i))
			fresh.Wait()
			if fresh.slowest != 50*time.Millisecond { // a place is free
				require.Equal(t, 100*time.Millisecond, fresh.slowest)
				twice++
			}
			time.Sleep(time.Second - fresh.slowest)
		}
		require.Zero(t, a.lost())
		require.Less(t, twice, d.lists(), "only if it crossed a list")
		list, most := d.questions()
		require.LessOrEqual(t, most, 7)
		require.InDelta(t, 3*2000+6*60, len(list), 60, "in each half of MaxAge")
		require.Less(t, list[0].at.Sub(start), 152*time.Second)
		require.LessOrEqual(t, d.lists(), 2+6+8, "once in Every, after a few tries")
	})
}

// TestOldestContextsFirst checks the order of renewals after an outage.
func TestOldestContextsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := herdOf(200)
		rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		runUntilTheEnd(t, cache)
		var a audience
		for _, id := range ids {
			a.join(t, cache, id)
		}
		d.turn(nil, failing)
		time.Sleep(250 * time.Second)
		d.questions()
		d.turn(nil, answers(time.Second))
		time.Sleep(49 * time.Second)
		list, most := d.questions()
		require.Equal(t, 6, most)
		require.Len(t, list, len(ids), "each of them once")
		for i, q := range list {
			require.Contains(t, ids[max(0, i-6):min(len(ids), i+7)], q.id, "at %d", i)
		}
	})
}

// A limiter allows so many calls a minute, like the plans of Grantex.
type limiter struct {
	mu     sync.Mutex
	limit  int
	calls  int
	minute int64
	over   int
}

func (l *limiter) wrap(f response) response {
	return func(ctx context.Context, id string) (*http.Response, error) {
		if wait := l.call(); wait > 0 {
			return says(0, http.StatusTooManyRequests, `{"code":"RATE_LIMIT_EXCEEDED"}`, "Retry-After", strconv.Itoa(wait))(ctx, id)
		}
		return f(ctx, id)
	}
}

// call returns how many seconds are left until the next minute, if this one is used up.
func (l *limiter) call() (wait int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Unix()
	if l.minute != now/60 {
		l.minute, l.calls = now/60, 0
	}
	if l.calls++; l.calls <= l.limit {
		return 0
	}
	l.over++
	return int(60 - now%60)
}

func (l *limiter) rejected() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// TestCeiling checks how many Contexts a plan of 100 calls a minute keeps open without
// lists.
func TestCeiling(t *testing.T) {
	for _, n := range []int{250, 600} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ids := herdOf(n)
				d, cache := newDesk(t, grants.Options{}, ids)
				runUntilTheEnd(t, cache)
				require.NoError(t, cache.Sync(t.Context()))
				var a audience
				for _, id := range ids {
					a.join(t, cache, id)
				}
				plan := &limiter{limit: 100}
				d.turn(plan.wrap(failing), plan.wrap(answers(50*time.Millisecond)))
				time.Sleep(15 * time.Minute)
				require.LessOrEqual(t, a.lost(), n-250)
				require.LessOrEqual(t, plan.rejected(), 15*8)
			})
		})
	}
}

// TestSilence checks what checks cost while no question is answered.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		d.turn(nil, silent)
		var herd crowd
		for i := range 2 * 60 * 100 {
			herd.check(t.Context(), cache, "grnt_"+strconv.Itoa(i))
			herd.pause(10 * time.Millisecond)
		}
		herd.Wait()
		list, most := d.questions()
		require.Equal(t, 8, most)
		require.LessOrEqual(t, len(list), 8+12)
		require.LessOrEqual(t, herd.most, 8+256)
		require.LessOrEqual(t, herd.slowest, 10*time.Second)
		require.Zero(t, herd.passed+herd.odd)

		d.turn(nil, answers(50*time.Millisecond))
		time.Sleep(15 * time.Second)
		require.NoError(t, cache.Check(t.Context(), "grnt_after"))
	})
}

// TestLimitedHerd checks that a 429 amid a herd stops it for as long as it says, and
// that one question alone tries again.
func TestLimitedHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{Every: -1}, nil)
		ids := herdOf(200)
		var herd crowd
		for _, id := range ids {
			herd.check(t.Context(), cache, id)
		}
		time.Sleep(125 * time.Millisecond)
		d.turn(nil, says(50*time.Millisecond, http.StatusTooManyRequests, "", "Retry-After", "30"))
		herd.Wait()
		limited := time.Now()
		require.Equal(t, 24, herd.passed)
		require.Equal(t, 200-24, herd.stale)
		list, _ := d.questions()
		require.Len(t, list, 24+8, "those under way")

		d.turn(nil, answers(50*time.Millisecond))
		for range 299 {
			time.Sleep(100 * time.Millisecond)
			var few crowd
			for i := range 10 {
				few.check(t.Context(), cache, "grnt_other"+strconv.Itoa(i))
			}
			few.Wait()
			require.Equal(t, 10, few.atOnce)
		}
		list, _ = d.questions()
		require.Empty(t, list)

		time.Sleep(30*time.Second - time.Since(limited))
		var again crowd
		for _, id := range ids[100:] {
			again.check(t.Context(), cache, id)
		}
		again.Wait()
		require.Equal(t, 100, again.passed)
		list, most := d.questions()
		require.Equal(t, 8, most)
		require.Equal(t, 50*time.Millisecond, list[1].at.Sub(list[0].at), "the first one is alone")
	})
}
