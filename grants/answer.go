package grants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// The statuses of a grant.
const (
	active  = "active"
	revoked = "revoked"
)

var (
	errStatus  = errors.New("grants: a grant has an unknown status; update grantexhook")
	errCrossed = errors.New("grants: the question crossed a list")
)

// answer sends a question, again if its answer counts for nothing, and ends it with
// what memory says then.
func (c *Cache) answer(ctx context.Context, q *question) {
	for again := true; again && c.begin(q); {
		g, err := c.request(ctx, q.id)
		again = c.accept(ctx, q, g, err)
	}
}

// begin reports whether a question has to be sent. If memory knows the answer by now,
// it ends the question.
func (c *Cache) begin(q *question) bool {
	now := clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch v := c.verdict(q.id, now); {
	case v == ended || v == proved && !q.renewal:
		c.settle(q, now, nil)
		return false
	case now.Before(c.questions.paused):
		c.settle(q, now, errPaused)
		return false
	}
	q.at, q.sent = now, c.next()
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

// accept ends a question with a response, or reports that it must be sent again.
func (c *Cache) accept(ctx context.Context, q *question, g *grantexapi.Grant, err error) (again bool) {
	now := clock()
	c.mu.Lock()
	leases, otherwise := c.learn(ctx, q, now, g, err)
	if again = otherwise == errCrossed; !again {
		c.settle(q, now, otherwise)
	}
	c.mu.Unlock()
	endAll(leases, ErrEnded)
	c.nudge()
	switch {
	case err == nil || notFound(err):
		c.problem(askingGrants, nil)
	case ctx.Err() == nil:
		c.problem(askingGrants, err)
	}
	return again
}

// learn records a response. It returns the Contexts that end, and the error of the
// checks if memory still doesn't know the grant.
func (c *Cache) learn(ctx context.Context, q *question, now time.Time, g *grantexapi.Grant, err error) ([]*lease, error) {
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
	case missing && c.knew(q.id, q.sent), !missing && g.Status == revoked:
		return c.mark(q.id, now), nil
	case c.crossed(q):
		return nil, errCrossed
	case !missing:
		c.prove(q.id, q.at, now)
		return nil, errSlow
	case c.lists.current != nil:
		c.lists.missing[q.id] = struct{}{}
	}
	return nil, ErrEnded // for these checks: it may not have been committed yet
}

// crossed reports whether a list was asked for after a question, and doesn't have the
// grant as far as is known. Either may be the newer, so the answer counts for nothing.
func (c *Cache) crossed(q *question) bool {
	return c.lists.current != nil && q.sent < c.lists.asked || q.sent < c.last.asked && !c.last.has(q.id)
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

// notFound reports whether a response says that there is no such grant. A 404 without
// the code comes from a wrong route or from a proxy.
func notFound(err error) bool {
	e, ok := errors.AsType[*grantexapi.Error](err)
	return ok && e.StatusCode == http.StatusNotFound && e.Code == "NOT_FOUND"
}

func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*grantexapi.Error](err)
	if !ok || e.StatusCode != http.StatusTooManyRequests {
		return 0
	}
	return e.RetryAfter
}
