package grants_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"grantex.dev/grantexhook/grants"
)

var (
	modelSeed  = flag.Uint64("model", 0, "the seed of TestModel; at random if 0")
	modelFirst = flag.Uint64("model.first", 0, "the first schedule of TestModel")
	modelCount = flag.Uint64("model.count", 0, "how many schedules TestModel plays; about two seconds' worth if 0")
	modelTrace = flag.Bool("model.trace", false, "log the steps of each schedule of TestModel")
)

// TestModel plays random schedules against a Cache: grants are created, delegated and
// end in every way, events come late, twice, in another order or not at all, responses
// are slow, wrong or overtaken by what happens meanwhile, the machine is suspended and
// the process starts again. What the Cache answers is compared with what Grantex holds
// true at that moment.
func TestModel(t *testing.T) {
	seed, count := *modelSeed, *modelCount
	if seed == 0 {
		seed = rand.Uint64()
	}
	if count == 0 {
		count = 600
		if testing.Short() {
			count = 150
		}
	}
	i := *modelFirst
	defer func() {
		suspended.Store(0)
		if t.Failed() {
			t.Logf("to see this again: go test -run 'TestModel$' ./grants -model=%d -model.first=%d -model.count=1", seed, i)
		}
	}()
	for ; i < *modelFirst+count; i++ {
		synctest.Test(t, func(t *testing.T) { // a failure ends the loop
			newModel(t, rand.New(rand.NewPCG(seed, i))).play()
		})
	}
}

// A model is one schedule: a service that uses the Cache, and Grantex.
type model struct {
	*testing.T
	*grantex
	rnd     *rand.Rand
	opts    grants.Options
	weather weather
	calm    bool // no faults, no long waits
	runs    bool // Run is called
	tells   bool // Ended is set

	meddles, callbackFails, callbackSlow int // of 100
	lost, doubled                        int // of 100 events

	in      *instance
	running sync.WaitGroup
	over    context.Context // done at the end

	resting atomic.Bool
	resumed atomic.Int64 // how long after the beginning, on the monotonic clock, was the last suspension

	logMu sync.Mutex
	steps []string
	told  map[string]bool
	held  map[string]bool // ids for which an earlier process has got a nil
}

const s = time.Second

func newModel(t *testing.T, rnd *rand.Rand) *model {
	suspended.Store(0)
	m := &model{T: t, grantex: newGrantex(), rnd: rnd, told: map[string]bool{}, held: map[string]bool{}}
	m.opts.MaxAge = pick(rnd, 6*s, 10*s, 10*s, 20*s, 20*s, 30*s, 60*s)
	m.opts.Every = pick(rnd, 0, 0, m.opts.MaxAge/2, 3*s, -1)
	if rnd.IntN(30) == 0 {
		m.opts.MaxAge, m.opts.Every = 0, pick(rnd, 0, 10*s, -1)
	}
	m.opts.NoStream = rnd.IntN(3) == 0
	m.runs, m.tells = rnd.IntN(15) > 0, rnd.IntN(10) > 0
	m.calm = rnd.IntN(4) == 0 && m.opts.MaxAge != 6*s
	m.weather = weather{faults: pick(rnd, 10, 30, 60), slow: pick(rnd, 0, 1*s, 4*s, 12*s)}
	m.meddles = pick(rnd, 0, 5, 20)
	m.lost, m.doubled = pick(rnd, 0, 30, 100), pick(rnd, 0, 30)
	m.callbackFails, m.callbackSlow = pick(rnd, 0, 0, 30), pick(rnd, 0, 20)
	if m.calm {
		m.weather = weather{slow: pick(rnd, 0, 500*time.Millisecond)}
	}
	return m
}

func (m *model) violation(format string, args ...any) {
	m.Helper()
	m.Errorf(format, args...)
}

func (m *model) step(format string, args ...any) {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	m.steps = append(m.steps, fmt.Sprintf("%v: ", m.now())+fmt.Sprintf(format, args...))
}

func (m *model) wasTold(id string) bool {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	return m.told[id]
}

func (m *model) setTold(ids []string) {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	for _, id := range ids {
		m.told[id] = true
	}
}

func (m *model) play() {
	m.in = m.newInstance(m.opts)
	defer m.report()
	over, finish := context.WithCancel(m.Context())
	m.over = over
	defer finish()
	for range m.rnd.IntN(4) {
		m.create()
	}
	if m.runs {
		m.in.run()
	}
	for range 10 + m.rnd.IntN(30) {
		m.act()
		m.pause()
		m.in.look()
		if m.Failed() {
			break
		}
	}
	if !m.Failed() {
		m.rest()
	}
	m.in.kill()
	m.running.Wait()
	time.Sleep(s) // for what runs beside
}

// rest lets the API work until nothing is left of the faults, and looks at the end.
func (m *model) rest() {
	m.resting.Store(true)
	m.in.api.setWeather(weather{})
	m.step("rest")
	for range 8 { // at most, until what failed has been tried again
		time.Sleep(10 * s)
		m.in.look()
		if status := m.in.cache.Status(); status.Untold == 0 && status.Err == nil && m.in.api.hanging() == 0 {
			break
		}
	}
	time.Sleep(m.in.api.silent())
	if m.rnd.IntN(3) == 0 { // without the list that settle asks for
		time.Sleep(m.in.maxAge() + 2*s)
		m.in.everythingTold()
	}
	time.Sleep(min(20*s, m.opts.MaxAge))
	m.in.look()
	m.in.settle()
}

func (m *model) report() {
	if !m.Failed() && !*modelTrace {
		return
	}
	m.logMu.Lock()
	defer m.logMu.Unlock()
	m.Logf("MaxAge %v, Every %v, NoStream %t, Run %t, Ended %t, weather %v, calm %t, meddles %d\n%s%v", m.opts.MaxAge, m.opts.Every,
		m.opts.NoStream, m.runs, m.tells, m.weather, m.calm, m.meddles, strings.Join(m.steps, "\n"), m.grantex)
}

func (m *model) pause() {
	age := m.opts.MaxAge
	if age == 0 {
		age = 5 * time.Minute
	}
	time.Sleep(pick(m.rnd, 0, 0, 1, time.Millisecond, 100*time.Millisecond, 500*time.Millisecond, 1*s, 2*s, age/2, time.Duration(m.rnd.Int64N(int64(4*s)))))
	if m.rnd.IntN(15) == 0 {
		time.Sleep(age)
	}
}

// An action is something that may happen, so often.
type action struct {
	weight int
	do     func(*model)
}

var actions []action

func init() { // which breaks a cycle
	actions = []action{
		{10, (*model).create},
		{8, (*model).revokeOne},
		{6, (*model).withdrawOne},
		{2, (*model).deleteOne},
		{25, (*model).checkOne},
		{6, (*model).checkMany},
		{2, (*model).checkAll},
		{12, (*model).openOne},
		{3, (*model).closeOne},
		{6, (*model).syncOne},
		{4, (*model).cross},
		{2, (*model).family},
		{3, (*model).markOne},
		{3, (*model).watchOne},
		{3, (*model).changeWeather},
		{2, (*model).noise},
		{2, (*model).suspend},
		{1, (*model).setClock},
		{2, (*model).restart},
	}
}

func (m *model) act() {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := m.rnd.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do(m)
			return
		}
	}
}

func (m *model) create() {
	expires := time.Hour
	if m.rnd.IntN(12) == 0 {
		expires = m.now() + pick(m.rnd, -11*time.Minute, -9*time.Minute-50*s, -1*s, 10*s)
	}
	g := m.sign(m.rnd, expires)
	parent := m.some(m.rnd, isActive)
	if m.rnd.IntN(2) == 0 {
		parent = nil
	}
	late := time.Duration(0)
	if m.rnd.IntN(5) == 0 {
		late = pick(m.rnd, 1, 28*time.Millisecond, 1*s, 5*s)
		g.early = true
		in := m.in
		m.beside(func() { in.check(m.Context(), g.id) })
	}
	m.step("sign %s, commit %v later (parent %v)", g.id, late, parent != nil)
	if late == 0 {
		m.commit(g, parent)
		return
	}
	time.AfterFunc(late, func() { m.commit(g, parent) })
}

// beside runs f while the schedule goes on.
func (m *model) beside(f func()) { m.running.Go(f) }

func (m *model) revokeOne() {
	g := m.some(m.rnd, isActive)
	if g == nil {
		return
	}
	e := m.revoke(g)
	m.step("revoke %s, cascade %t", g.id, e.others)
	m.spread(e)
}

// spread sends what there is to hear of an ending.
func (m *model) spread(e ending) {
	later := func() time.Duration {
		return pick(m.rnd, 0, 1, 17*time.Millisecond, 1*s, 3*s, 14*s)
	}
	for range m.copies() {
		if e.event != nil {
			time.AfterFunc(later(), func() { m.publish(message{string(e.event), e.named, e.others}) })
		}
	}
	for range m.copies() {
		if e.revoked != "" {
			time.AfterFunc(later(), func() { m.deliver(e.revoked) })
		}
	}
}

// deliver is a webhook with all its attempts.
func (m *model) deliver(id string) {
	for wait := 30 * s; wait <= 480*s; wait *= 2 {
		if m.current().deliver(id) || !sleep(m.over, wait) {
			return
		}
	}
}

func (m *model) current() *instance {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	return m.in
}

func (m *model) copies() int {
	switch {
	case m.rnd.IntN(100) < m.lost:
		return 0
	case m.rnd.IntN(100) < m.doubled:
		return 2
	}
	return 1
}

func (m *model) withdrawOne() {
	if g := m.some(m.rnd, isActive); g != nil {
		m.step("withdraw %s", g.id)
		m.spread(m.withdraw(m.rnd, g))
	}
}

func (m *model) deleteOne() {
	if g := m.some(m.rnd, isActive); g != nil {
		m.step("delete %s", g.agent)
		m.deleteAgent(g.agent)
	}
}

// someID is the id of a grant, or now and then of something else.
func (m *model) someID() string {
	g := m.some(m.rnd, func(*truth) bool { return true })
	if m.rnd.IntN(4) == 0 {
		g = m.some(m.rnd, isEnded)
	}
	if g == nil || m.rnd.IntN(15) == 0 {
		return pick(m.rnd, "grnt_unknown", "", strings.Repeat("x", 200), "../webhooks", "a b%2F?c")
	}
	return g.id
}

// patience returns how long a caller waits.
func (m *model) patience() (context.Context, context.CancelFunc) {
	if m.calm || m.rnd.IntN(3) > 0 {
		return context.WithCancel(m.Context())
	}
	return context.WithTimeout(m.Context(), pick(m.rnd, 0, 1, 100*time.Millisecond, 2*s))
}

func (m *model) checkOne() {
	id, in := m.someID(), m.in
	ctx, cancel := m.patience()
	m.step("check %.20q", id)
	m.beside(func() {
		defer cancel()
		in.check(ctx, id)
	})
}

func (m *model) checkMany() {
	id, in := m.someID(), m.in
	m.step("check %.20q many times", id)
	for range 2 + m.rnd.IntN(10) {
		switch m.rnd.IntN(4) {
		case 0:
			m.beside(func() { in.context(m.Context(), id) })
		case 1:
			other := m.someID()
			m.beside(func() { in.check(m.Context(), other) })
		default:
			m.beside(func() { in.check(m.Context(), id) })
		}
	}
}

// checkAll asks for more grants at once than the Cache may.
func (m *model) checkAll() {
	in := m.in
	m.step("check all")
	for _, id := range m.ids(func(*truth) bool { return true }) {
		m.beside(func() { in.check(m.Context(), id) })
	}
	for i := range 8 {
		m.beside(func() { in.check(m.Context(), fmt.Sprintf("grnt_unknown_%d", i)) })
	}
}

func (m *model) openOne() {
	id, in := m.someID(), m.in
	ctx, cancel := m.patience()
	if ctx.Err() == nil { // it bounds the Context too
		if _, bounded := ctx.Deadline(); bounded {
			cancel()
			ctx, cancel = context.WithCancel(m.Context())
		}
	}
	m.step("open %.20q", id)
	m.beside(func() { in.context(ctx, id); _ = cancel })
}

func (m *model) closeOne() {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	if n := len(m.in.contexts); n > 0 {
		i := m.rnd.IntN(n)
		m.in.contexts[i].cancel()
		m.in.contexts = slices.Delete(m.in.contexts, i, i+1)
		m.step("close a Context")
	}
}

func (m *model) syncOne() {
	in := m.in
	ctx, cancel := m.patience()
	m.step("sync")
	m.beside(func() {
		defer cancel()
		_ = in.sync(ctx)
	})
}

// cross asks for a new grant and, while the answer may be under way, ends it and asks
// for a list.
func (m *model) cross() {
	m.create()
	id, in := m.newest(), m.in
	if m.rnd.IntN(3) == 0 {
		m.syncOne()
	}
	m.beside(func() { in.context(m.Context(), id) })
	m.beside(func() { in.check(m.Context(), id) })
	m.step("cross %s", id)
	time.Sleep(pick(m.rnd, 0, 1, 100*time.Millisecond, 1*s, 3*s))
	if g := m.some(m.rnd, func(g *truth) bool { return g.id == id && g.active() }); g != nil {
		switch m.rnd.IntN(3) {
		case 0:
			m.withdraw(m.rnd, g)
		case 1:
			m.deleteAgent(g.agent)
			m.beside(func() { in.check(m.Context(), id) })
		}
	}
	m.syncOne()
}

// family delegates a grant, lets the Cache know all of it, and revokes the root.
func (m *model) family() {
	root, child := m.sign(m.rnd, time.Hour), m.sign(m.rnd, time.Hour)
	m.commit(root, nil)
	m.commit(child, root)
	in := m.in
	m.step("family %s", child.id)
	m.beside(func() { in.context(m.Context(), child.id) })
	time.Sleep(pick(m.rnd, 2*s, 8*s))
	m.spread(m.revoke(root))
}

func (m *model) newest() string {
	ids := m.ids(func(*truth) bool { return true })
	return ids[len(ids)-1]
}

func (m *model) markOne() {
	if g := m.some(m.rnd, isEnded); g != nil {
		m.step("mark %s", g.id)
		m.in.markEnded(g.id)
	}
}

func (m *model) watchOne() {
	g := m.some(m.rnd, func(g *truth) bool { return g.committed })
	if g == nil {
		return
	}
	m.step("watch %s", g.id)
	m.in.watch(g.id)
}

func (m *model) changeWeather() {
	if m.calm {
		return
	}
	m.weather = weather{faults: pick(m.rnd, 0, 0, 10, 30, 60, 100), slow: pick(m.rnd, 0, 1*s, 4*s, 12*s)}
	m.step("weather %v", m.weather)
	m.in.api.setWeather(m.weather)
}

func (m *model) noise() {
	m.publish(message{text: string(m.harmless(m.rnd))})
}

func (m *model) suspend() {
	if m.calm || suspended.Load() != m.suspended.Load() {
		return
	}
	synctest.Wait()
	d := pick(m.rnd, 1*s, 5*s, 20*s, 60*s, 400*s)
	m.suspended.Add(int64(d))
	suspended.Add(int64(d))
	m.resumed.Store(int64(time.Since(m.begin)))
	m.step("resume after %v", d)
}

// setClock moves the wall clock, which no machine's is right by.
func (m *model) setClock() {
	if m.calm || m.suspended.Load() > 0 { // both together defeat both clocks
		return
	}
	d := pick(m.rnd, -400*s, -20*s, -1*s, 1*s, 20*s)
	suspended.Add(int64(d))
	m.step("set the clock by %v", d)
}

// restart ends the process and starts another, which knows only what the service
// holds.
func (m *model) restart() {
	if !m.runs {
		return
	}
	m.step("restart")
	old := m.in
	old.kill()
	for _, id := range old.knownIDs() {
		if !m.wasTold(id) {
			m.held[id] = true
		}
	}
	in := m.newInstance(m.opts)
	m.logMu.Lock()
	m.in = in
	m.logMu.Unlock()
	var watch []string
	for id := range m.held {
		watch = append(watch, id)
	}
	slices.Sort(watch)
	m.in.watch(watch...)
	m.in.run()
}
