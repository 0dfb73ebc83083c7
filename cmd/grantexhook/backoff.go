package main

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// A backoff says how long to wait before the next attempt. The zero value is
// ready to use.
type backoff struct{ tries int }

// next returns a pause that is twice the one before, up to maxBackoff, and up to
// half as much again at random, so that many clients do not come back at once.
func (b *backoff) next() time.Duration {
	pause := maxBackoff
	if b.tries < 5 {
		pause = minBackoff << b.tries
	}
	b.tries++
	return pause + rand.N(pause/2)
}

func (b *backoff) reset() { b.tries = 0 }

// sleep reports whether ctx lasted for d.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
