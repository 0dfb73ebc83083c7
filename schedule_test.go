package grantexhook_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grantex.dev/grantexhook"
)

var scheduleSeed = flag.Uint64("schedule", 0, "the seed of TestRandomSchedules; at random if 0")

// TestRandomSchedules lets attempts at one event overlap in every way, with
// handlers that fail in every way and a Store that fails now and then. An attempt may
// get a 200 only once the event is handled, and a last attempt must find it handled
// or handle it.
func TestRandomSchedules(t *testing.T) {
	seed := *scheduleSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	defer func() {
		if t.Failed() {
			t.Logf("to see this again: go test -run RandomSchedules . -schedule=%d", seed)
		}
	}()
	for i := range uint64(500) {
		synctest.Test(t, func(t *testing.T) {
			newSchedule(t, rand.New(rand.NewPCG(seed, i))).run()
		})
	}
}

var (
	errHandler = errors.New("the handler failed")
	errFault   = errors.New("the store failed")
)

// A fault is how a call of the Store fails.
type fault int

const (
	noFault fault = iota
	lost          // without effect
	unheard       // with the effect that it should have
)

// A planned attempt is one delivery of the event, and how it goes.
type planned struct {
	at         time.Duration
	dispatcher int           // of the two that share the Store
	queued     bool          // goes to Dispatch, not to ServeHTTP
	deadline   time.Duration // of the caller, if not 0
	hangUp     time.Duration // after it was sent, if not 0

	takes   time.Duration // the handler
	listens bool          // the handler ends with its context
	end     string        // of the handler

	claim, settle fault
}

func (p planned) String() string {
	return fmt.Sprintf("{at %v, dispatcher %d, queued %t, deadline %v, hangUp %v, takes %v, listens %t, ends with %s, faults %d %d}",
		p.at, p.dispatcher, p.queued, p.deadline, p.hangUp, p.takes, p.listens, p.end, p.claim, p.settle)
}

// pick returns one of the values.
func pick[T any](rnd *rand.Rand, values ...T) T { return values[rnd.IntN(len(values))] }

func newPlanned(rnd *rand.Rand, faults bool) planned {
	const s = time.Second
	p := planned{
		at:         pick(rnd, 0, 1*s, 2*s, 5*s, 9*s, 10*s, 18*s, 19*s, 30*s, time.Duration(rnd.Int64N(int64(60*s)))),
		dispatcher: rnd.IntN(2),
		queued:     rnd.IntN(3) == 0,
		deadline:   pick(rnd, 0, 0, 3*s, 40*s),
		hangUp:     pick(rnd, 0, 0, 1*s, 10*s),
		takes:      pick(rnd, 0, 1*s, 5*s, 9*s, 12*s, 20*s, 45*s, time.Duration(rnd.Int64N(int64(30*s)))),
		listens:    rnd.IntN(3) == 0,
		end:        pick(rnd, "nil", "nil", "error", "error", "panic", "abort", "exit"),
	}
	if faults {
		p.claim = pick(rnd, noFault, noFault, noFault, lost, unheard)
		p.settle = pick(rnd, noFault, noFault, noFault, lost, unheard)
	}
	return p
}

// handle is what the handler does in this attempt.
func (p planned) handle(ctx context.Context) error {
	if p.listens {
		select {
		case <-ctx.Done():
		case <-time.After(p.takes):
		}
	} else {
		time.Sleep(p.takes)
	}
	switch p.end {
	case "nil":
		return nil
	case "panic":
		panic(errHandler)
	case "abort":
		panic(http.ErrAbortHandler)
	case "exit":
		runtime.Goexit()
	}
	return errHandler
}

// A faultyStore fails as the attempt in the context has planned.
type faultyStore struct{ grantexhook.MemoryStore }

func plannedIn(ctx context.Context) planned { return ctx.Value(ctxKey{}).(planned) }

func (s *faultyStore) Claim(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	f := plannedIn(ctx).claim
	if f == lost {
		return 0, false, errFault
	}
	token, done, err := s.MemoryStore.Claim(ctx, id, lease)
	if f == unheard {
		return 0, false, errFault
	}
	return token, done, err
}

func (s *faultyStore) Done(ctx context.Context, id string, keep time.Duration) error {
	return fail(plannedIn(ctx).settle, func() error { return s.MemoryStore.Done(ctx, id, keep) })
}

func (s *faultyStore) Release(ctx context.Context, id string, token int64) error {
	return fail(plannedIn(ctx).settle, func() error { return s.MemoryStore.Release(ctx, id, token) })
}

func fail(f fault, call func() error) error {
	switch f {
	case lost:
		return errFault
	case unheard:
		return errors.Join(call(), errFault)
	}
	return call()
}

// A handling is one call of the handler. Its attempt holds the claim until its lease
// expires.
type handling struct {
	ended  bool
	expiry time.Time
}

// A schedule is some attempts at one event, and their results.
type schedule struct {
	*testing.T
	attempts    []planned
	faults      bool
	dispatchers [2]grantexhook.Dispatcher

	mu        sync.Mutex
	handlings []*handling
	succeeded bool // some call of the handler has returned nil
	settled   bool // and the Store knows
	active    int  // attempts in flight
	lastEnd   time.Time
}

func newSchedule(t *testing.T, rnd *rand.Rand) *schedule {
	s := &schedule{T: t, faults: rnd.IntN(3) == 0}
	for range 2 + rnd.IntN(5) {
		s.attempts = append(s.attempts, newPlanned(rnd, s.faults))
	}
	store := new(faultyStore)
	for i := range s.dispatchers {
		s.dispatchers[i].Store = store
		s.dispatchers[i].Log = slog.New(slog.DiscardHandler)
		onAll(&s.dispatchers[i], func(ctx context.Context, _ any) error { return s.handle(ctx) })
	}
	return s
}

func (s *schedule) run() {
	var wg sync.WaitGroup
	for _, p := range s.attempts {
		wg.Go(func() {
			time.Sleep(p.at)
			s.attempt(p)
		})
	}
	wg.Wait()
	time.Sleep(10 * time.Minute) // every lease has expired
	if status := s.attempt(planned{end: "nil"}); status != http.StatusOK || !s.succeeded {
		s.Errorf("the last attempt got %d; has a handler succeeded? %t", status, s.succeeded)
	}
	if s.Failed() {
		for _, p := range s.attempts {
			s.Log(p)
		}
	}
}

// handle is the handler of all attempts.
func (s *schedule) handle(ctx context.Context) error {
	p := plannedIn(ctx)
	h := s.begin(p)
	ok := false
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.ended = true
		s.succeeded = s.succeeded || ok
	}()
	err := p.handle(ctx)
	ok = err == nil
	return err
}

func (s *schedule) begin(p planned) *handling {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled {
		s.Errorf("the event is handled again, in %v", p)
	}
	for _, h := range s.handlings {
		if !h.ended && time.Now().Before(h.expiry) {
			s.Errorf("the event is handled while another handler holds its claim, in %v", p)
		}
	}
	given := 9 * time.Second
	if p.queued && p.deadline != 0 {
		given = p.deadline
	}
	h := &handling{expiry: time.Now().Add(2 * given)}
	s.handlings = append(s.handlings, h)
	return h
}

// attempt delivers the event once and checks the response.
func (s *schedule) attempt(p planned) (status int) {
	ctx, cancel := context.WithCancel(context.WithValue(s.Context(), ctxKey{}, p))
	defer cancel()
	if p.deadline != 0 {
		ctx, cancel = context.WithTimeout(ctx, p.deadline)
		defer cancel()
	}
	if p.hangUp != 0 {
		time.AfterFunc(p.hangUp, cancel)
	}
	s.mu.Lock()
	s.active++
	overlaps := s.active > 1
	s.mu.Unlock()

	status = s.answer(ctx, p)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	overlaps = overlaps || s.active > 0 || s.lastEnd.Equal(time.Now())
	s.lastEnd = time.Now()
	s.check(p, status, overlaps)
	return status
}

// check is called after the response to an attempt.
func (s *schedule) check(p planned, status int, overlaps bool) {
	if !slices.Contains([]int{0, 200, 409, 500, 503}, status) {
		s.Errorf("the status is %d, in %v", status, p)
	}
	if status == http.StatusOK && !s.succeeded {
		s.Errorf("the status is 200 before a handler has succeeded, in %v", p)
	}
	if status == http.StatusConflict && !s.faults && !overlaps {
		s.Errorf("the status is 409 although no other attempt is in flight, in %v", p)
	}
	if status == http.StatusOK && p.settle != lost {
		s.settled = true
	}
}

// answer returns the status of an attempt, or what it would be in ServeHTTP. It
// is 0 if there isn't one.
func (s *schedule) answer(ctx context.Context, p planned) (status int) {
	d := &s.dispatchers[p.dispatcher]
	ended := make(chan struct{})
	go func() { // which the handler may end
		defer close(ended)
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				s.Errorf("panic: %v", v)
			}
		}()
		if !p.queued {
			status = record(ctx, s.T, d, createdEvent).Code
			return
		}
		switch err := d.Dispatch(ctx, createdEvent); {
		case err == nil:
			status = http.StatusOK
		case errors.Is(err, grantexhook.ErrInFlight):
			status = http.StatusConflict
		default:
			status = http.StatusInternalServerError
		}
	}()
	<-ended
	return status
}
