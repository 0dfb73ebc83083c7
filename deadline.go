package grantexhook

import (
	"context"
	"sync"
	"time"
)

// A deadline is a context that ends at a time, like that of
// [context.WithDeadline], but starts its timer only when someone asks whether it
// has ended. For a handler that never does, a timer would cost as much as
// verifying the delivery.
type deadline struct {
	context.Context // has the values, and never ends
	at              time.Time

	mu     sync.Mutex
	over   bool
	timed  context.Context // nil until someone asks
	cancel context.CancelFunc
}

// withDeadline returns a context that ends after the time d, or when the
// function that comes with it is called, but not when parent does.
func withDeadline(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c := &deadline{Context: context.WithoutCancel(parent), at: time.Now().Add(d)}
	return c, c.stop
}

func (c *deadline) Deadline() (time.Time, bool) { return c.at, true }
func (c *deadline) Done() <-chan struct{}       { return c.start().Done() }
func (c *deadline) Err() error                  { return c.start().Err() }

// AfterFunc saves package context a goroutine for each context that is derived
// directly from c. Behind a value that Trace adds, there is one for each.
func (c *deadline) AfterFunc(f func()) func() bool { return context.AfterFunc(c.start(), f) }

func (c *deadline) start() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.Context, c.at)
		if c.over {
			c.cancel()
		}
	}
	return c.timed
}

func (c *deadline) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.timed != nil {
		c.cancel()
	}
}
