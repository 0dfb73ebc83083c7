package grants

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	places        = 8   // questions in flight
	renewalPlaces = 6   // of these, at most for renewals
	queue         = 256 // questions that wait for a place

	questionTimeout = 10 * time.Second
	firstListWait   = 5 * time.Second
	maxPause        = time.Minute // after a 429

	minBackoff = time.Second
	maxBackoff = 15 * time.Second
)

var (
	errBusy    = fmt.Errorf("%w (too many checks are waiting)", ErrStale)
	errPaused  = fmt.Errorf("%w (Grantex rejected or failed the last request)", ErrStale)
	errStopped = fmt.Errorf("%w (Run has ended)", ErrStale)
	errSlow    = fmt.Errorf("%w (the response took too long)", ErrStale)
)

// asking is the state of the questions, which are requests for single grants.
type asking struct {
	pending  map[string]*question // waiting or in flight, one for each grant
	waiting  []*question
	renewals []string // grants to ask for again, the oldest proof first
	inFlight int

	failures int       // since the last success
	failed   int64     // the turn of the last failure
	paused   time.Time // until then
}

// A question is detached from the checks that wait for it.
type question struct {
	id      string
	renewal bool
	sent    int64     // the turn, or 0 while it waits
	at      time.Time // before it was sent
	done    chan struct{}
	err     error // what checks return, once done is closed
}

// ask returns what Grantex says about a grant, as the error of a check.
func (c *Cache) ask(ctx context.Context, id string) error {
	c.awaitFirstList(ctx)
	for ctx.Err() == nil {
		q, late, err := c.join(id)
		if q == nil {
			return err
		}
		select {
		case <-q.done:
			// The grant may be newer than a question that was sent before this check.
			if !late || !errors.Is(q.err, ErrEnded) {
				return q.err
			}
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%w (%w)", ErrStale, context.Cause(ctx))
}

// awaitFirstList waits for the first list if it's in flight, since it answers most
// checks.
func (c *Cache) awaitFirstList(ctx context.Context) {
	c.mu.RLock()
	first := c.lists.current
	known := c.lists.finished
	c.mu.RUnlock()
	if first == nil || known {
		return
	}
	timer := time.NewTimer(firstListWait)
	defer timer.Stop()
	select {
	case <-first.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// join returns a question about a grant, and whether it has been sent already. If
// there's no question, because memory knows by now or because too many wait, it
// returns the error for the check.
func (c *Cache) join(id string) (q *question, late bool, err error) {
	now := clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.verdict(id, now) {
	case proved:
		return nil, false, nil
	case ended:
		return nil, false, ErrEnded
	}
	if e := c.entries[id]; e != nil {
		e.wanted = now
	}
	q = c.questions.pending[id]
	switch {
	case q != nil:
		return q, q.sent != 0, nil
	case now.Before(c.questions.paused):
		return nil, false, errPaused
	case len(c.questions.waiting) >= queue:
		return nil, false, errBusy
	}
	q = c.questions.newQuestion(id)
	c.questions.waiting = append(c.questions.waiting, q)
	c.fill()
	return q, false, nil
}

func (a *asking) newQuestion(id string) *question {
	q := &question{id: id, done: make(chan struct{})}
	a.pending[id] = q
	return q
}

// fill starts questions while there are places.
func (c *Cache) fill() {
	if clock().Before(c.questions.paused) {
		return
	}
	for q := c.questions.pop(); q != nil; q = c.questions.pop() {
		w := c.work
		w.wait.Go(func() { c.answer(w.ctx, q) })
	}
}

// pop takes a place for the next question, or returns nil.
func (a *asking) pop() *question {
	free := places
	if a.failures > 0 {
		free = 1 // until one succeeds
	}
	if a.inFlight >= free {
		return nil
	}
	if len(a.waiting) > 0 {
		q := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.inFlight++
		return q
	}
	for a.inFlight < renewalPlaces && len(a.renewals) > 0 {
		id := a.renewals[0]
		a.renewals = a.renewals[1:]
		if a.pending[id] == nil {
			a.inFlight++
			q := a.newQuestion(id)
			q.renewal = true
			return q
		}
	}
	return nil
}
