// Package storetest checks that an implementation of [grantexhook.Store] keeps
// the rules of the interface. A test of the implementation calls [Run]:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) grantexhook.Store {
//			return mystore.New(openDatabase(t))
//		})
//	}
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"grantex.dev/grantexhook"
)

// Run checks each of the [Cases] in a subtest, on the Store that newStore
// returns for it. That may be the same one every time, with what earlier runs
// left in it: each case makes up ids of its own. Apart from what the Store
// itself takes, Run takes about a second, for leases to expire.
func Run(t *testing.T, newStore func(t *testing.T) grantexhook.Store) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, newStore(t)) })
	}
}

// A Case checks one rule of [grantexhook.Store]. [Cases] returns them; the zero
// value is none.
type Case struct {
	Name string // in the form of a subtest's
	Rule string // what the Store has to do; every failure of the case quotes it

	run func(*checker)
}

// Run checks the rule on s and reports to t how s breaks it. The function [Run]
// is more convenient; this is for a Store that never leaves the memory, which
// need not wait for leases in a bubble of [testing/synctest].
func (c Case) Run(t testing.TB, s grantexhook.Store) {
	t.Helper()
	c.run(&checker{t: t, rule: c.Rule, store: s, ctx: t.Context()})
}

const (
	// long does not pass during a case: no check that something is still held
	// or done races against the clock.
	long = time.Minute

	// short passes soon; until something is seen to have expired, either is
	// right.
	short = 30 * time.Millisecond

	// patience is for a Store that counts in seconds, or that is slow to see
	// that a short time has passed.
	patience = 10 * time.Second

	// poll is how often it is asked meanwhile.
	poll = 10 * time.Millisecond
)

// A state is how a Claim finds an id.
type state string

const (
	free state = "free" // and now claimed
	held state = "held by someone else"
	done state = "done"
)

// A checker calls the Store for a case.
type checker struct {
	t     testing.TB
	rule  string
	store grantexhook.Store
	ctx   context.Context
}

// failf reports that the rule is broken. It may be called from any goroutine.
func (c *checker) failf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s\n\t%s", c.rule, fmt.Sprintf(format, args...))
}

func (c *checker) fatalf(format string, args ...any) {
	c.t.Helper()
	c.failf(format, args...)
	c.t.FailNow()
}

// freshID returns an id that no Store has seen, not even in an earlier run.
func freshID() string { return "evt_" + rand.Text() }

// try claims id and tells how it was found. It may be called from any
// goroutine.
func (c *checker) try(id string, lease time.Duration) (token int64, found state, err error) {
	token, isDone, err := c.store.Claim(c.ctx, id, lease)
	switch {
	case err != nil:
		return 0, "", fmt.Errorf("Claim(%q) failed: %w", id, err)
	case token != 0 && isDone:
		return 0, "", fmt.Errorf("Claim(%q) returned the token %d and done, want one or the other", id, token)
	case token != 0:
		return token, free, nil
	case isDone:
		return 0, done, nil
	}
	return 0, held, nil
}

func (c *checker) claim(id string, lease time.Duration) (token int64, found state) {
	c.t.Helper()
	token, found, err := c.try(id, lease)
	if err != nil {
		c.fatalf("%v", err)
	}
	return token, found
}

// want claims id, which has to be in this state, for a long time.
func (c *checker) want(id string, want state) (token int64) {
	c.t.Helper()
	token, found := c.claim(id, long)
	if found != want {
		c.fatalf("Claim found %q to be %s, want %s", id, found, want)
	}
	return token
}

// wantExpiry claims id for a long time as soon as a short one has made it free.
// Until then it has to be in the state before.
func (c *checker) wantExpiry(id string, before state) (token int64) {
	c.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
		switch token, found := c.claim(id, long); found {
		case free:
			return token
		case before:
		default:
			c.fatalf("Claim found %q to be %s, want %s, and free once %v have passed", id, found, before, short)
		}
	}
	c.fatalf("Claim still found %q to be %s after %v, want free after %v", id, before, patience, short)
	return 0
}

// outlast lets a short time pass where nothing would show that it has.
func outlast() { time.Sleep(5 * short) }

func (c *checker) claimShortly(id string) (token int64) {
	c.t.Helper()
	token, found := c.claim(id, short)
	if found != free {
		c.fatalf("Claim found %q to be %s, want free", id, found)
	}
	return token
}

func (c *checker) done(id string, keep time.Duration) {
	c.t.Helper()
	if err := c.store.Done(c.ctx, id, keep); err != nil {
		c.fatalf("Done(%q) failed: %v", id, err)
	}
}

func (c *checker) release(id string, token int64) {
	c.t.Helper()
	if err := c.store.Release(c.ctx, id, token); err != nil {
		c.fatalf("Release(%q, %d) failed: %v", id, token, err)
	}
}

// together runs f in n goroutines that begin at once, and waits for them.
func together(n int, f func()) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-begin
			f()
		})
	}
	close(begin)
	wg.Wait()
}
