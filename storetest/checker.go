package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"grantex.dev/grantexhook"
)

const (
	// long never passes during a case, so checks that an id is still held or done
	// can't fail because the machine is slow.
	long = time.Minute

	// short passes soon. An id may still be held, or be free already, until a Claim
	// has found it free.
	short = 30 * time.Millisecond

	// patience is for a Store that counts in seconds, or that is slow to notice that
	// a short time has passed.
	patience = 10 * time.Second

	// poll is the interval between claims while waiting.
	poll = 10 * time.Millisecond
)

// A state is how a Claim finds an id.
type state string

const (
	free state = "free" // and now claimed
	held state = "held by another claim"
	done state = "done"
)

// A checker calls the Store for a case.
type checker struct {
	t         testing.TB
	rule, fix string
	store     grantexhook.Store
	ctx       context.Context
}

// fatalf reports that the rule is broken and ends the case.
func (c *checker) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\n\t%s\n\tTo fix it: %s", c.rule, fmt.Sprintf(format, args...), c.fix)
}

// freshID returns an id that no Store has seen, not even in an earlier run.
func freshID() string { return "evt_" + rand.Text() }

// try claims id and returns how it was found. It may be called from any goroutine.
func (c *checker) try(id string, lease time.Duration) (token int64, found state, err error) {
	token, isDone, err := c.store.Claim(c.ctx, id, lease)
	switch {
	case err != nil:
		return 0, "", fmt.Errorf("Claim(%q) returned an error: %w", id, err)
	case token != 0 && isDone:
		return 0, "", fmt.Errorf("Claim(%q) returned token %d and done true, want only one of them", id, token)
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

// want claims id for a long time and checks the state that it finds.
func (c *checker) want(id string, want state) (token int64) {
	c.t.Helper()
	return c.wantFor(long, id, want)
}

func (c *checker) claimShortly(id string) (token int64) {
	c.t.Helper()
	return c.wantFor(short, id, free)
}

func (c *checker) wantFor(lease time.Duration, id string, want state) (token int64) {
	c.t.Helper()
	token, found := c.claim(id, lease)
	if found != want {
		c.fatalf("Claim found %q %s, want %s", id, found, want)
	}
	return token
}

// wantExpiry claims id for a long time as soon as a short time has made it free. Until
// then id must be in the state before.
func (c *checker) wantExpiry(id string, before state) (token int64) {
	c.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
		switch token, found := c.claim(id, long); found {
		case free:
			return token
		case before:
		default:
			c.fatalf("Claim found %q %s, want %s until %v have passed, then free", id, found, before, short)
		}
	}
	c.fatalf("Claim found %q still %s after %v, want free after %v", id, before, patience, short)
	return 0
}

// outlast waits for a short time to pass, where a Claim can't show that it has.
func outlast() { time.Sleep(5 * short) }

func (c *checker) done(id string, keep time.Duration) {
	c.t.Helper()
	if err := c.store.Done(c.ctx, id, keep); err != nil {
		c.fatalf("Done(%q) returned an error: %v", id, err)
	}
}

func (c *checker) release(id string, token int64) {
	c.t.Helper()
	if err := c.store.Release(c.ctx, id, token); err != nil {
		c.fatalf("Release(%q, %d) returned an error: %v", id, token, err)
	}
}
