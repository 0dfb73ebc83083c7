package grants_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
)

// A held is a Context that the model has opened.
type held struct {
	ctx    context.Context
	cancel context.CancelFunc
	id     string
	since  time.Time
}

// An instance is one Cache, from its start to the end of its process. It compares what
// the Cache answers with what Grantex holds true.
type instance struct {
	*model
	opts    grants.Options
	api     *api
	cache   *grants.Cache
	stop    context.CancelFunc // ends Run
	stopped chan struct{}

	syncing atomic.Int32 // calls of Sync under way
	calls   atomic.Int32 // calls that may ask for something

	mu       sync.Mutex
	rnd      *rand.Rand
	dead     bool
	known    map[string]bool // what the Cache has answered nil for, or has seen in a list
	watched  map[string]bool
	named    map[string]bool // as revoked, by an event that the Cache has taken
	revealed map[string]bool // what the Cache has shown as ended
	contexts []*held
	telling  bool
}

func (m *model) newInstance(opts grants.Options) *instance {
	in := &instance{
		model: m, opts: opts, stopped: make(chan struct{}),
		known: map[string]bool{}, watched: map[string]bool{}, named: map[string]bool{}, revealed: map[string]bool{},
		rnd: rand.New(rand.NewPCG(m.rnd.Uint64(), 1)),
	}
	in.api = &api{
		instance: in, weather: m.weather, rnd: rand.New(rand.NewPCG(m.rnd.Uint64(), 2)),
		open: map[string]int{}, asked: map[string]int{},
	}
	in.opts.Log = slog.New(slog.DiscardHandler)
	if m.tells {
		in.opts.Ended = in.ended
	}
	client := &grantexapi.Client{APIKey: "key", BaseURL: "https://api.example.com", HTTPClient: &http.Client{Transport: in.api}}
	cache, err := grants.New(client, &in.opts)
	if err != nil {
		m.Fatal(err)
	}
	in.cache = cache
	return in
}

func (in *instance) run() {
	ctx, cancel := context.WithCancel(in.Context())
	in.stop = cancel
	go func() {
		defer close(in.stopped)
		err := in.cache.Run(ctx)
		if ctx.Err() == nil {
			in.violation("Run returned %v although its context goes on", err)
		}
		// Callers that wait may still have asked for something.
		if n := in.api.underWay(); n > 0 && in.calls.Load() == 0 {
			in.violation("%d requests are under way after Run has returned", n)
		}
	}()
}

// kill ends the process. Its Contexts end with it.
func (in *instance) kill() {
	in.mu.Lock()
	in.dead = true
	contexts := in.contexts
	in.contexts = nil
	in.mu.Unlock()
	if in.runs {
		in.stop()
		<-in.stopped
	}
	for _, h := range contexts {
		h.cancel()
	}
}

// maxAge is the bound that the options set.
func (in *instance) maxAge() time.Duration {
	if in.opts.MaxAge == 0 {
		return 5 * time.Minute
	}
	return in.opts.MaxAge
}

// chance reports true in n of 100 cases.
func (in *instance) chance(n int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.rnd.IntN(100) < n
}

// A call is one call of Check or Context under way.
type call struct {
	id               string
	active, revealed bool // when it began
	seen             bool // the Cache must have known it when it began
	began            time.Duration
	monotonic        time.Time
}

func (in *instance) beginCall(id string) call {
	in.calls.Add(1)
	in.mu.Lock()
	defer in.mu.Unlock()
	return call{id, in.isActive(id), in.revealed[id], in.known[id] && in.opts.Every >= 0, in.now(), time.Now()}
}

// endCall checks the result of a call.
func (in *instance) endCall(c call, what string, err error) {
	in.calls.Add(-1)
	now := in.now()
	_, ended := in.hasEnded(c.id)
	if took := time.Since(c.monotonic); took > 20*time.Second {
		in.violation("%s(%s) took %v", what, c.id, took)
	}
	if *modelTrace {
		in.step("%s(%.20s) from %v: %v", what, c.id, c.began, err)
	}
	switch {
	case err == nil:
		in.checkNil(c, what, now)
	case errors.Is(err, grants.ErrEnded):
		if c.active && in.isActive(c.id) {
			in.violation("%s(%s) at %v, from %v: ErrEnded, but the grant is active", what, c.id, now, c.began)
		}
		if ended && (c.seen || !in.isEarly(c.id)) { // otherwise it leaves no mark
			in.reveal(c.id)
		}
	case errors.Is(err, grants.ErrStale):
		if in.calm && c.active && in.isActive(c.id) && !in.isDead() {
			in.violation("%s(%s) at %v, from %v: ErrStale, although the API works", what, c.id, now, c.began)
		}
	default:
		in.violation("%s(%s): unexpected error %v", what, c.id, err)
	}
}

func (in *instance) checkNil(c call, what string, now time.Duration) {
	endedAt, ended := in.hasEnded(c.id)
	switch {
	case c.revealed:
		in.violation("%s(%s) at %v, from %v: nil, although the Cache has known that it ended", what, c.id, now, c.began)
	case ended && now-endedAt > in.maxAge():
		in.violation("%s(%s) at %v, from %v: nil, but the grant ended at %v", what, c.id, now, c.began, endedAt)
	case !in.exists(c.id):
		in.violation("%s(%s) at %v: nil, but the grant doesn't exist", what, c.id, now)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.known[c.id] = true
}

// reveal is called when the Cache has shown that grants ended. From then on no Context
// of theirs may be open.
func (in *instance) reveal(ids ...string) {
	if *modelTrace {
		in.step("revealed: %v", ids)
	}
	in.mu.Lock()
	for _, id := range ids {
		in.revealed[id] = true
	}
	contexts := slices.Clone(in.contexts)
	in.mu.Unlock()
	yield()
	for _, h := range contexts {
		if slices.Contains(ids, h.id) && h.ctx.Err() == nil {
			in.violation("a Context of %s is open at %v, although the Cache knows that it ended", h.id, in.now())
		}
	}
}

func (in *instance) check(ctx context.Context, id string) {
	c := in.beginCall(id)
	in.endCall(c, "Check", in.cache.Check(ctx, id))
}

// context opens a Context. The hook runs inside it.
func (in *instance) context(ctx context.Context, id string) {
	c := in.beginCall(id)
	hooked := &hookedContext{Context: ctx, hook: in.interfere}
	got, cancel, err := in.cache.Context(hooked, id)
	hooked.off.Store(true)
	in.endCall(c, "Context", err)
	if cancel == nil {
		in.violation("Context(%s): no cancel", id)
		return
	}
	if err != nil {
		if got.Err() == nil || ctx.Err() == nil && !isRefusal(context.Cause(got)) {
			in.violation("Context(%s) returned %v; its cause is %v", id, err, context.Cause(got))
		}
		cancel()
		return
	}
	h := &held{got, cancel, id, time.Now()}
	in.mu.Lock()
	if in.dead {
		cancel()
	} else {
		in.contexts = append(in.contexts, h)
	}
	revealed := in.revealed[id]
	in.mu.Unlock()
	yield()
	if revealed && got.Err() == nil {
		in.violation("Context(%s) is open at %v, although the Cache has known that it ended", id, in.now())
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, grants.ErrEnded) || errors.Is(err, grants.ErrStale)
}

// A hookedContext runs a hook beside the call that derives a context from it.
type hookedContext struct {
	context.Context
	hook func()
	off  atomic.Bool
}

// Value implements [context.Context].
func (c *hookedContext) Value(key any) any {
	if !c.off.Load() {
		go c.hook()
		runtime.Gosched()
	}
	return c.Context.Value(key)
}

// interfere ends a grant now and then, and lets the Cache know, while something else
// is under way.
func (in *instance) interfere() {
	in.mu.Lock()
	if in.dead || in.resting.Load() || in.rnd.IntN(100) >= in.meddles {
		in.mu.Unlock()
		return
	}
	rnd := rand.New(rand.NewPCG(in.rnd.Uint64(), 3))
	in.mu.Unlock()
	g := in.some(rnd, isActive)
	if g == nil {
		return
	}
	e := in.revoke(g)
	in.step("meanwhile revoke %s", g.id)
	if e.revoked == "" || rnd.IntN(3) == 0 {
		return // it just ended
	}
	if rnd.IntN(2) == 0 {
		in.markEnded(e.revoked)
		return
	}
	go in.deliver(e.revoked)
	runtime.Gosched()
}

func (in *instance) markEnded(ids ...string) {
	in.cache.MarkEnded(ids...)
	go in.reveal(ids...)
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, id := range ids {
		in.revealed[id] = true
	}
}

// deliver is one attempt to deliver a webhook. It reports whether that succeeded.
func (in *instance) deliver(id string) bool {
	in.calls.Add(1)
	err := in.cache.Revoked(in.Context(), grantexhook.Event[grantexhook.GrantRevoked]{
		ID: "evt", Type: grantexhook.TypeGrantRevoked, Data: grantexhook.GrantRevoked{GrantID: id},
	})
	in.calls.Add(-1)
	in.reveal(id)
	if err == nil && in.tells && !in.wasTold(id) {
		in.violation("Revoked(%s) returned nil at %v, but Ended has not succeeded", id, in.now())
	}
	return err == nil
}

func (in *instance) watch(ids ...string) {
	in.mu.Lock()
	for _, id := range ids {
		in.watched[id] = true
	}
	in.mu.Unlock()
	in.cache.Watch(ids...)
}

// heard is called when a message of the stream has arrived.
func (in *instance) heard(m message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, id := range m.named {
		in.named[id] = true
		before := in.revealed[id] || in.isUnknown(id) // and perhaps forgotten
		go in.endedAtOnce(id, before)
	}
	if m.others && in.calm && in.opts.Every >= 0 {
		go in.listedSoon(in.ids(isEnded))
	}
}

// endedAtOnce checks that a grant that an event names has ended at once.
func (in *instance) endedAtOnce(id string, before bool) {
	time.Sleep(time.Millisecond)
	if err := in.probe(id); err == nil || !before && !errors.Is(err, grants.ErrEnded) && !in.isDead() {
		in.violation("Check(%s) returns %v after an event at %v", id, err, in.now())
	}
	in.reveal(id)
}

// listedSoon checks that an event makes Run ask for a list as soon as it may.
func (in *instance) listedSoon(ended []string) {
	every := in.opts.Every
	if every == 0 {
		every = min(time.Minute, in.maxAge()/2)
	}
	if !sleep(in.over, min(every, 8*time.Second)*11/10+4*time.Second) { // a list takes 1.5 s at most, and one may be under way
		return
	}
	for _, id := range ended {
		if in.probe(id) == nil && !in.isDead() {
			in.violation("%s isn't known to have ended at %v, long after an event", id, in.now())
		}
	}
}

// listed is called when a whole list has arrived.
func (in *instance) listed(ids []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.runs {
		return // it may have been given up
	}
	for _, id := range ids {
		in.known[id] = true
	}
}

// sync calls Sync and, after a success, compares all of the Cache with Grantex.
func (in *instance) sync(ctx context.Context) error {
	before := in.ids(isEnded)
	active := in.ids(isActive)
	began := in.now()
	in.syncing.Add(1)
	in.calls.Add(1)
	err := in.cache.Sync(ctx)
	in.calls.Add(-1)
	in.syncing.Add(-1)
	if err != nil {
		return err
	}
	for _, id := range before {
		if in.probe(id) == nil {
			in.violation("Sync from %v to %v missed that %s ended before", began, in.now(), id)
		}
	}
	fresh := in.now()-began < in.maxAge()-3*time.Second
	for _, id := range active {
		err := in.probe(id)
		if in.isActive(id) && !in.longExpired(id) && (errors.Is(err, grants.ErrEnded) || fresh && !in.isEarly(id) && err != nil) {
			in.violation("Sync from %v to %v, but Check(%s) returns %v", began, in.now(), id, err)
		}
	}
	in.closedAfterSync(before)
	return nil
}

// closedAfterSync checks that no Context of these is open. From now on, no call may
// succeed for them.
func (in *instance) closedAfterSync(ended []string) {
	in.mu.Lock()
	for _, id := range ended {
		in.revealed[id] = true
	}
	in.mu.Unlock()
	yield()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, h := range in.contexts {
		if slices.Contains(ended, h.id) && h.ctx.Err() == nil {
			in.violation("a Context of %s is open after a Sync", h.id)
		}
	}
}

func (in *instance) knownIDs() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Collect(maps.Keys(in.known))
}

// probe is a Check that doesn't wait.
func (in *instance) probe(id string) error {
	ctx, cancel := context.WithCancel(in.Context())
	cancel()
	return in.cache.Check(ctx, id)
}

// ended is Options.Ended.
func (in *instance) ended(ctx context.Context, ids []string) error {
	in.mu.Lock()
	if in.telling {
		in.violation("two calls of Ended at once")
	}
	in.telling = true
	in.mu.Unlock()
	if len(ids) == 0 || len(ids) > 1000 {
		in.violation("Ended with %d ids", len(ids))
	}
	for _, id := range ids {
		if in.isActive(id) {
			in.violation("Ended(%s) at %v, but it is active", id, in.now())
		}
	}
	err := in.tell(ctx, slices.Clone(ids))
	in.mu.Lock()
	defer in.mu.Unlock()
	in.telling = false
	return err
}

var errEnded = errors.New("the callback failed")

func (in *instance) tell(ctx context.Context, ids []string) error {
	if !in.resting.Load() && in.chance(in.callbackSlow) {
		sleep(ctx, time.Second)
	}
	if in.chance(20) { // no lock is held
		in.cache.Status()
		in.cache.MarkEnded(in.ids(isEnded)...)
		in.probe(ids[0])
	}
	if !in.resting.Load() && in.chance(in.callbackFails) {
		return errEnded
	}
	in.setTold(ids)
	return nil
}

// look checks the Contexts at this moment.
func (in *instance) look() {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := in.now()
	in.contexts = slices.DeleteFunc(in.contexts, func(h *held) bool {
		endedAt, ended := in.hasEnded(h.id)
		if h.ctx.Err() == nil {
			if in.runs && ended && now-endedAt > in.maxAge() && time.Since(in.begin)-time.Duration(in.resumed.Load()) > time.Second {
				in.violation("a Context of %s is open at %v, but the grant ended at %v", h.id, now, endedAt)
			}
			return false
		}
		switch cause := context.Cause(h.ctx); {
		case errors.Is(cause, grants.ErrEnded):
			if !ended {
				in.violation("a Context of %s ended as the grant's, which is active at %v", h.id, now)
			}
			in.revealed[h.id] = true
		case errors.Is(cause, grants.ErrStale):
			if in.calm && !ended && in.runs && time.Since(h.since) > 3*time.Second { // its proof may have been old
				in.violation("a Context of %s ended as stale at %v, although the API works", h.id, now)
			}
		case !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded):
			in.violation("a Context of %s ended with %v", h.id, cause)
		}
		return true
	})
}

// settle checks everything after a time in which the API worked.
func (in *instance) settle() {
	if err := in.sync(in.Context()); err != nil {
		in.violation("Sync: %v, although the API works", err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	in.look()
	in.everythingTold()
	if s := in.cache.Status(); in.runs && in.tells && s.Untold != 0 {
		in.violation("%d grants are untold in the end", s.Untold)
	} else if open := in.openContexts(); s.Contexts != open {
		in.violation("Status counts %d Contexts, %d are open", s.Contexts, open)
	}
	for _, id := range in.ids(func(*truth) bool { return true }) {
		if err := in.cache.Check(in.Context(), id); (err == nil) != in.isActive(id) {
			in.violation("Check(%s) returns %v in the end; active: %t", id, err, in.isActive(id))
		}
	}
}

func (in *instance) openContexts() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, h := range in.contexts {
		if h.ctx.Err() == nil {
			n++
		}
	}
	return n
}

// everythingTold checks that each grant that was known or watched or named, and has
// ended, was told.
func (in *instance) everythingTold() {
	if !in.runs || !in.tells {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, id := range in.ids(isEnded) {
		known := in.known[id] && in.opts.Every >= 0 && !in.longExpired(id)
		if (known || in.watched[id] || in.named[id]) && !in.wasTold(id) {
			in.violation("%s ended and was never told (known %t, watched %t, named %t)", id, in.known[id], in.watched[id], in.named[id])
		}
	}
}

func (in *instance) isDead() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.dead
}

// yield lets everything else happen that happens at this moment.
func yield() { time.Sleep(time.Nanosecond) }
