package grants

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// The statuses of a grant.
const (
	active  = "active"
	revoked = "revoked"
)

const (
	places        = 8   // questions in flight
	renewalPlaces = 6   // of these, at most for grants that nobody is waiting for
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
	errCrossed = fmt.Errorf("%w (a list that was asked for later doesn't have the grant)", ErrStale)
	errStatus  = errors.New("grants: a grant has an unknown status; update grantexhook")
)

// asking is the state of the questions, which are requests for single grants.
type asking struct {
	pending  map[string]*question // waiting or in flight, one for each grant
	waiting  []*question
	renewals []string // grants to ask for again, the oldest proof first
	inFlight int

	failures int       // since the last success
	failed   int64     // the turn of the last failure
	paused   time.Time // nothing is sent before
}

// A question is detached from the checks that wait for it.
type question struct {
	id      string
	renewal bool
	sent    int64 // the turn, or 0 while it waits
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
			if again := q.err == errCrossed || late && errors.Is(q.err, ErrEnded); !again {
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

// renew returns a question about a grant that may still be proved.
func (a *asking) renew(id string) *question {
	q := a.pending[id]
	if q == nil {
		q = a.newQuestion(id)
		q.renewal = true
		a.waiting = append(a.waiting, q)
	}
	return q
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

// answer sends a question, and ends it with what memory says then.
func (c *Cache) answer(ctx context.Context, q *question) {
	at := clock()
	if !c.begin(q, at) {
		return
	}
	g, err := c.request(ctx, q.id)
	now := clock()
	c.mu.Lock()
	leases, otherwise := c.learn(ctx, q, at, now, g, err)
	c.settle(q, now, otherwise)
	c.mu.Unlock()
	endAll(leases, ErrEnded)
	c.nudge()
	switch {
	case err == nil || notFound(err):
		c.problem(askingGrants, nil)
	case ctx.Err() == nil:
		c.problem(askingGrants, err)
	}
}

// begin reports whether a question has to be sent. If memory knows the answer by now,
// it ends the question.
func (c *Cache) begin(q *question, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.verdict(q.id, now); v == ended || v == proved && !q.renewal {
		c.settle(q, now, nil)
		return false
	}
	if now.Before(c.questions.paused) {
		c.settle(q, now, errPaused)
		return false
	}
	q.sent = c.next()
	return true
}

func (c *Cache) request(ctx context.Context, id string) (*grantexapi.Grant, error) {
	c.questioned.Add(1)
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	g, err := c.client.Grant(ctx, id)
	if err == nil {
		err = c.doubt(g)
	}
	return g, err
}

// doubt returns why a response says nothing about a grant of this account, or nil.
func (c *Cache) doubt(g *grantexapi.Grant) error {
	c.mu.RLock()
	account := c.last.account
	c.mu.RUnlock()
	switch {
	case g.Status != active && g.Status != revoked:
		return errStatus
	case account != "" && g.DeveloperID != "" && g.DeveloperID != account:
		return errOtherAccount
	}
	return nil
}

// notFound reports whether a response says that there is no such grant. A 404 without
// the code comes from a wrong route or from a proxy.
func notFound(err error) bool {
	e, ok := errors.AsType[*grantexapi.Error](err)
	return ok && e.StatusCode == http.StatusNotFound && e.Code == "NOT_FOUND"
}

// learn records a response. It returns the Contexts that end, and the error of the
// checks if memory still doesn't know the grant.
func (c *Cache) learn(ctx context.Context, q *question, at, now time.Time, g *grantexapi.Grant, err error) ([]*lease, error) {
	missing := notFound(err)
	switch {
	case ctx.Err() != nil:
		return nil, errStopped
	case err != nil && !missing:
		c.pause(q, now, retryAfter(err))
		return nil, fmt.Errorf("%w (%w)", ErrStale, err)
	}
	if q.sent > c.questions.failed {
		c.questions.failures = 0
	}
	switch {
	case missing && !c.knew(q.id, q.sent): // it may not have been committed yet
		if c.lists.current != nil {
			c.lists.missing[q.id] = struct{}{}
		}
		return nil, ErrEnded
	case missing || g.Status == revoked:
		return c.mark(q.id, now), nil
	}
	if q.sent < c.last.asked && !c.last.has(q.id) {
		return nil, errCrossed
	}
	c.prove(q.id, q.sent, at, now)
	return nil, errSlow
}

// settle ends a question and starts the next. The checks return otherwise if memory
// doesn't know the grant.
func (c *Cache) settle(q *question, now time.Time, otherwise error) {
	switch c.verdict(q.id, now) {
	case ended:
		q.err = ErrEnded
	case unproved:
		q.err = otherwise
	}
	delete(c.questions.pending, q.id)
	close(q.done)
	c.questions.inFlight--
	c.fill()
}

// pause holds back all questions for a while after one failed. Those that wait fail
// with it. The failures of questions that were sent before the last failure count as
// one with it.
func (c *Cache) pause(q *question, now time.Time, retryAfter time.Duration) {
	wait := min(retryAfter, maxPause)
	if q.sent > c.questions.failed {
		c.questions.failures++
		c.questions.failed = c.next()
		wait = max(wait, backoff(c.questions.failures, minBackoff, maxBackoff))
	}
	if until := now.Add(wait); until.After(c.questions.paused) {
		c.questions.paused = until
	}
	c.questions.flush(errPaused)
}

// flush ends the questions that wait for a place.
func (a *asking) flush(err error) {
	for _, q := range a.waiting {
		q.err = err
		delete(a.pending, q.id)
		close(q.done)
	}
	a.waiting, a.renewals = nil, nil
}

func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*grantexapi.Error](err)
	if !ok || e.StatusCode != http.StatusTooManyRequests {
		return 0
	}
	return e.RetryAfter
}

// backoff returns a wait that doubles with each try, with a random extra.
func backoff(tries int, least, most time.Duration) time.Duration {
	wait := min(most, least<<min(tries-1, 16))
	return min(most, wait+rand.N(wait/4+1))
}
