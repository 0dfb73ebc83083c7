//go:build unix

package integration

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
	"grantex.dev/grantexhook/sqlstore"
)

var (
	crashKills = flag.Int("kills", 9, "how often TestCrash kills PostgreSQL")
	crashSeed  = flag.Uint64("crash", 0, "the seed of TestCrash; at random if 0")
)

const (
	// crashTimeout is short, so a test can wait for the lease, which is twice as long.
	crashTimeout = 500 * time.Millisecond
	crashLease   = 2 * crashTimeout

	// What a handler does, in the GrantID of its event.
	inTx      = "grnt_in_tx"
	elsewhere = "grnt_elsewhere"
)

// The test kills PostgreSQL under load and starts it again. It checks that no event that
// was answered 200 is lost, that Tx never takes effect twice, and that no event is
// handled after the store has said that it's done.
func TestCrash(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("for the same schedule: go test -run 'TestCrash$' . -kills=%d -crash=%d", *crashKills, seed)
		}
	})
	c := newCrash(t, seed)
	for i := range *crashKills {
		c.round(crashRounds[i%len(crashRounds)])
	}
	c.finish()
	t.Log(c.summary())
	require.Empty(t, c.wrong)
	if *crashKills < len(crashRounds) {
		return
	}
	for _, answer := range []string{"200 handled", "200 duplicate", "409 in_flight", "500 failed", "503 store_failed"} {
		require.NotZero(t, c.answers[answer], "%s never came: %v", answer, c.answers)
	}
}

// The test checks that TestCrash would find commits that aren't durable.
func TestCrashFindsLostCommits(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	c := newCrash(t, 1, "synchronous_commit=off")
	for _, r := range crashRounds[:2] {
		c.round(r)
	}
	c.finish()
	require.Contains(t, c.wrong, lostEffect)
	require.Contains(t, c.wrong, handledAgain)
}

// A crashRound ends with a kill. With one sender, the last thing before the kill can be
// a 200. Otherwise the commits of other events would make that one durable.
type crashRound struct {
	kinds   []string
	senders int
	after   bool // kill after a 200, not at any time
}

var crashRounds = []crashRound{
	{[]string{inTx}, 1, true},
	{[]string{elsewhere}, 1, true},
	{[]string{inTx, elsewhere}, 8, false},
	{[]string{inTx}, 8, false},
	{[]string{elsewhere}, 8, false},
	{[]string{inTx, elsewhere}, 1, true},
	{[]string{inTx, elsewhere}, 8, true},
	{[]string{inTx}, 1, true},
	{[]string{elsewhere}, 1, true},
}

// crashSettings keep PostgreSQL from writing what needn't be durable. Otherwise it would
// survive most kills. The WAL is also written before a page that leaves the memory.
var crashSettings = []string{
	"wal_writer_delay=10s", "wal_writer_flush_after=1GB", "wal_buffers=16MB",
	"bgwriter_lru_maxpages=0", "shared_buffers=32MB",
}

// What can be wrong.
const (
	lostEffect     = "was answered 200, and its effect is lost"
	doubleEffect   = "took effect twice in spite of Tx"
	handledAgain   = "was handled again after the store said that it's done"
	handledBeside  = "was handled a second time while it was claimed"
	unacknowledged = "isn't answered 200, however often it's sent"
	wrongAnswer    = "got a response that it shouldn't get"
)

// A crash is a service with several Dispatchers that share a PostgreSQL, which is
// killed again and again.
type crash struct {
	t         *testing.T
	server    *privatePostgres
	db        *sql.DB
	client    *http.Client
	receivers []string
	rand      *rand.Rand // of the rounds; each sender has its own
	answered  atomic.Int64
	unchecked sync.RWMutex // is locked from a kill to the check of what is left

	mu      sync.Mutex
	events  map[string]*crashEvent
	order   []*crashEvent // as they were first answered 200
	kills   []span
	up      bool
	answers map[string]int
	repeats int // how many runs of a handler followed another one of the same event
	wrong   map[string][]string
}

type span struct{ from, to time.Time }

type crashEvent struct {
	parcel
	kind    string
	fails   bool // the first time
	slow    bool // the first time: if the server is killed meanwhile, Tx begins after that
	settled time.Time
	acked   bool
	runs    []*crashRun
}

// A crashRun is an attempt at an event that called the handler.
type crashRun struct {
	asked    time.Time // before Claim was called
	begun    time.Time
	effect   bool      // outside of the database
	released time.Time // when Release was called
}

func newCrash(t *testing.T, seed uint64, settings ...string) *crash {
	t.Helper()
	c := &crash{
		t:       t,
		server:  newPrivatePostgres(t, append(settings, crashSettings...)...),
		rand:    rand.New(rand.NewPCG(seed, 0)),
		up:      true,
		events:  make(map[string]*crashEvent),
		answers: make(map[string]int),
		wrong:   make(map[string][]string),
	}
	c.db = openPostgres(t, c.server.url())
	execSQL(t, c.db, "CREATE TABLE effects (event text NOT NULL)") // without a key, which would hide a double
	newSQLStore(t, c.db, sqlstore.PostgreSQL)
	execSQL(t, c.db, "CHECKPOINT") // the tables can't be lost
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	c.client = &http.Client{Transport: transport, Timeout: sender.Timeout}
	for _, mode := range []string{"cache_statement", "cache_statement", "exec"} {
		c.receivers = append(c.receivers, c.receiver(mode))
	}
	return c
}

// receiver starts a Dispatcher with its own connections and returns its URL.
func (c *crash) receiver(execMode string) string {
	db := openPostgres(c.t, c.server.url("default_query_exec_mode="+execMode))
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	require.NoError(c.t, err)
	d := &grantexhook.Dispatcher{
		Store:   crashStore{store, c},
		Timeout: crashTimeout,
		Trace: func(ctx context.Context, _, _ string, _ time.Time) (context.Context, func(string, error)) {
			return context.WithValue(ctx, crashKey{}, new(crashRun)), func(string, error) {}
		},
		Log: slog.New(slog.DiscardHandler),
	}
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		return c.handle(ctx, store, e.ID)
	})
	server := httptest.NewServer(newInboxVerifier(c.t).Middleware(d))
	c.t.Cleanup(server.Close)
	return server.URL
}

type crashKey struct{}

func crashRunOf(ctx context.Context) *crashRun { return ctx.Value(crashKey{}).(*crashRun) }

// A crashStore notes what the Dispatcher learns from the Store.
type crashStore struct {
	grantexhook.Store
	c *crash
}

func (s crashStore) Claim(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	crashRunOf(ctx).asked = time.Now()
	token, done, err := s.Store.Claim(ctx, id, lease)
	if done && err == nil {
		s.c.settle(id)
	}
	return token, done, err
}

func (s crashStore) Done(ctx context.Context, id string, keep time.Duration) error {
	err := s.Store.Done(ctx, id, keep)
	if err == nil {
		s.c.settle(id)
	}
	return err
}

func (s crashStore) Release(ctx context.Context, id string, token int64) error {
	s.c.mu.Lock()
	crashRunOf(ctx).released = time.Now()
	s.c.mu.Unlock()
	return s.Store.Release(ctx, id, token)
}

// settle notes that the store has said that an event is done. An attempt that begins
// from now on mustn't call the handler.
func (c *crash) settle(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.events[id]; e.settled.IsZero() {
		e.settled = time.Now()
	}
}

func (c *crash) handle(ctx context.Context, store *sqlstore.Store, id string) error {
	run := crashRunOf(ctx)
	e, first := c.begin(run, id)
	time.Sleep(rand.N(3 * time.Millisecond))
	if e.slow && first {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		c.outlast(run)
	}
	if e.fails && first {
		return errors.New("failed as asked")
	}
	if e.kind == elsewhere {
		c.mu.Lock()
		defer c.mu.Unlock()
		run.effect = true
		return nil
	}
	err := store.Tx(ctx, id, effect(ctx, id))
	if err == nil {
		c.settle(id)
	}
	return err
}

// outlast waits a while for the server to be killed. If it is, outlast waits until it
// responds again, and a bit more for another attempt at the event.
func (c *crash) outlast(run *crashRun) {
	for time.Since(run.begun) < crashTimeout/2 || !c.isUp() && time.Since(run.begun) < patience {
		time.Sleep(5 * time.Millisecond)
	}
	if c.killedDuring(run) {
		time.Sleep(rand.N(crashLease))
	}
}

func (c *crash) isUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

func (c *crash) killedDuring(run *crashRun) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.kills, func(k span) bool { return run.begun.Before(k.to) })
}

// begin checks that a handler may run, and notes that it does.
func (c *crash) begin(run *crashRun, id string) (e *crashEvent, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, run.begun = c.events[id], time.Now()
	if !e.settled.IsZero() && run.asked.After(e.settled) {
		c.fail(handledAgain, id)
	}
	for _, earlier := range e.runs {
		if !c.mayFollow(earlier, run) {
			c.fail(handledBeside, id)
		}
		c.repeats++
	}
	e.runs = append(e.runs, run)
	return e, len(e.runs) == 1
}

// mayFollow reports whether the claim of the earlier run can have ended: it was
// released, it expired, or it was lost with the server. A claim is only lost with a
// server that was killed after it was made and before the later one.
func (c *crash) mayFollow(earlier, run *crashRun) bool {
	if !earlier.released.IsZero() || run.begun.Sub(earlier.asked) >= crashLease-clockSlack {
		return true
	}
	return slices.ContainsFunc(c.kills, func(k span) bool {
		return earlier.asked.Before(k.to) && run.begun.After(k.from)
	})
}

func (c *crash) fail(what, event string) { c.wrong[what] = append(c.wrong[what], event) }

// round puts load on the service, kills the server meanwhile, starts it, and checks what
// is left. The senders retry until they have got a 200 for what they have begun.
func (c *crash) round(r crashRound) {
	stop, hit := make(chan struct{}), make(chan struct{})
	var killed sync.WaitGroup
	killed.Add(1)
	until := c.answered.Load() + 1 + c.rand.Int64N(int64(40*r.senders))
	if !r.after {
		until = 1 << 62
	}
	var once sync.Once
	kill := func() { once.Do(func() { c.kill(); close(hit); killed.Done() }) }

	var senders sync.WaitGroup
	for range r.senders {
		s := crashSender{c, rand.New(rand.NewPCG(c.rand.Uint64(), 0)), func() {
			if c.answered.Add(1) >= until {
				kill()
			}
		}}
		senders.Go(func() { s.send(r.kinds, stop) })
	}
	wait := time.Duration(c.rand.Int64N(int64(400 * time.Millisecond)))
	if r.after {
		wait = patience
	}
	select {
	case <-hit:
	case <-time.After(wait):
		kill()
	}
	killed.Wait()
	c.unchecked.Lock()
	c.recover()
	c.check()
	c.unchecked.Unlock()
	c.sendAgain(50)
	close(stop)
	senders.Wait()
}

func (c *crash) kill() {
	from := time.Now()
	c.mu.Lock() // before anything that can come of it
	c.kills = append(c.kills, span{from, from.Add(patience)})
	c.up = false
	c.mu.Unlock()
	c.server.kill()
	c.mu.Lock()
	c.kills[len(c.kills)-1].to = time.Now()
	c.mu.Unlock()
}

// recover starts the server, and sometimes kills it while it recovers.
func (c *crash) recover() {
	time.Sleep(time.Duration(c.rand.Int64N(int64(50 * time.Millisecond))))
	for c.rand.IntN(4) == 0 {
		c.server.launch()
		time.Sleep(time.Duration(c.rand.Int64N(int64(150 * time.Millisecond))))
		c.kill()
	}
	c.server.start()
	c.mu.Lock()
	c.up = true
	c.mu.Unlock()
}

// check checks the effects of all events.
func (c *crash) check() {
	acked := c.acknowledged() // first: others are acknowledged meanwhile
	effects := c.effects()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range acked {
		elsewhere := slices.ContainsFunc(e.runs, func(r *crashRun) bool { return r.effect })
		if effects[e.id] == 0 && !elsewhere {
			c.fail(lostEffect, e.id)
		}
	}
	for id, n := range effects {
		if n > 1 {
			c.fail(doubleEffect, id)
		}
	}
}

// acknowledged returns the events that were answered 200, in this order.
func (c *crash) acknowledged() []*crashEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.order)
}

func (c *crash) effects() map[string]int {
	rows, err := c.db.QueryContext(c.t.Context(), "SELECT event, count(*) FROM effects GROUP BY event")
	require.NoError(c.t, err)
	defer rows.Close()
	effects := make(map[string]int)
	for rows.Next() {
		var id string
		var n int
		require.NoError(c.t, rows.Scan(&id, &n))
		effects[id] = n
	}
	require.NoError(c.t, rows.Err())
	return effects
}

// sendAgain sends the last n events again that were answered 200.
func (c *crash) sendAgain(n int) {
	acked := c.acknowledged()
	acked = acked[max(0, len(acked)-n):]
	const atOnce = 8
	var wg sync.WaitGroup
	for i := range atOnce {
		s := crashSender{c, rand.New(rand.NewPCG(c.rand.Uint64(), 0)), func() {}}
		wg.Go(func() {
			for k := i; k < len(acked); k += atOnce {
				s.until200(acked[k])
			}
		})
	}
	wg.Wait()
}

// finish sends all events again.
func (c *crash) finish() {
	c.sendAgain(len(c.order))
	c.check()
}

func (c *crash) summary() string {
	return fmt.Sprintf("%d kills, %d events, %d repeated runs, all allowed unless listed below; responses %v", len(c.kills), len(c.events), c.repeats, c.answers)
}

// A crashSender sends events as Grantex does: until it gets a 200.
type crashSender struct {
	*crash
	rand     *rand.Rand
	answered func() // is called after each 200
}

// send sends new events. Of some it sends two copies at once, and of some it sends
// another one after a 200.
func (s crashSender) send(kinds []string, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		e := s.newEvent(kinds[s.rand.IntN(len(kinds))])
		if e.slow || s.rand.IntN(4) == 0 {
			twin := crashSender{s.crash, rand.New(rand.NewPCG(s.rand.Uint64(), 0)), func() {}}
			var wg sync.WaitGroup
			wg.Go(func() { twin.until200(e) })
			s.until200(e)
			wg.Wait()
		} else {
			s.until200(e)
		}
		if s.rand.IntN(4) == 0 {
			s.until200(e)
		}
	}
}

func (s crashSender) newEvent(kind string) *crashEvent {
	e := &crashEvent{parcel: newParcel(s.t, kind), kind: kind, fails: s.rand.IntN(16) == 0, slow: s.rand.IntN(8) == 0}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[e.id] = e
	return e
}

func (s crashSender) until200(e *crashEvent) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if s.try(e) {
			s.answered()
			return
		}
		time.Sleep(5*time.Millisecond + time.Duration(s.rand.Int64N(int64(20*time.Millisecond))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(unacknowledged, e.id)
}

// try makes one attempt. If the event was acknowledged before, it waits until a lost
// effect would have been found, because the attempt would create it again.
func (s crashSender) try(e *crashEvent) (acknowledged bool) {
	s.mu.Lock()
	again := e.acked
	s.mu.Unlock()
	if again {
		s.unchecked.RLock()
		defer s.unchecked.RUnlock()
	}
	url := s.receivers[s.rand.IntN(len(s.receivers))]
	status, text, err := post(context.Background(), s.client, url, inboxSecret, e.body)
	s.note(e, status, text, err)
	return status == http.StatusOK
}

func (s crashSender) note(e *crashEvent, status int, text string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[fmt.Sprint(status, " ", text)]++
	switch {
	case err != nil:
		s.fail(wrongAnswer, fmt.Sprint(e.id, ": ", err))
	case status == http.StatusOK && !e.acked:
		e.acked = true
		s.order = append(s.order, e)
	case status == http.StatusOK, status == http.StatusConflict, status == http.StatusInternalServerError, status == http.StatusServiceUnavailable:
	default:
		s.fail(wrongAnswer, fmt.Sprint(e.id, ": ", status, " ", text))
	}
}
