package grants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"grantex.dev/grantexhook/internal/grantlist"
)

const (
	// listGap is the least time between two lists, unless Every is shorter. A list that
	// takes long keeps five times its duration.
	listGap = 5 * time.Second

	// listSilence is how long a list may make no progress.
	listSilence = 30 * time.Second

	// expiredFor allows for clocks that differ. Grantex lists expired grants as active for
	// ever, so memory would fill up with them.
	expiredFor = 10 * time.Minute
)

var (
	errSilent       = fmt.Errorf("the list made no progress for %v", listSilence)
	errTooOld       = errors.New("the list took longer than MaxAge; set Options.Every to a negative value if that's normal")
	errOtherAccount = errors.New("the response belongs to another account than the last list; was the API key replaced by another account's?")
)

// listing is the state of the lists. There's one at a time.
type listing struct {
	current  *request // in flight
	queued   *request // to be sent as soon as current is done
	asked    int64    // the turn at which the last one was sent
	finished bool     // one has come or failed
	failed   int      // since the last complete list
	due      time.Time
	soonest  time.Time     // if an event asks for a list
	poke     chan struct{} // an event asks for a list

	// missing are unknown grants that weren't found since current was sent. If it has
	// them, they're new or deleted, and the next check asks which.
	missing map[string]struct{}
}

// A request is a list that someone waits for.
type request struct {
	waiting int // calls of Sync
	done    chan struct{}
	err     error // once done is closed
}

// Sync asks Grantex for the list of active grants and returns when it's in memory. The
// request is sent after Sync was called, so all that Grantex knew at that time is known
// afterwards. Concurrent calls share one list. Call it before you serve, or to be sure
// after an outage. It works with and without Run, and also if Options.Every is
// negative. If ctx ends, Sync returns its error.
func (c *Cache) Sync(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	r := c.list()
	r.waiting++
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.waiting--; r.waiting == 0 && r == c.lists.queued {
		c.lists.queued = nil
	}
	return context.Cause(ctx)
}

// list returns a request that hasn't been sent yet. c.mu is held.
func (c *Cache) list() *request {
	r := &request{done: make(chan struct{})}
	switch {
	case c.lists.current == nil:
		c.lists.current = r
		w := c.work
		w.wait.Go(func() { c.readLists(w.ctx, r) })
	case c.lists.queued == nil:
		c.lists.queued = r
	default:
		r = c.lists.queued
	}
	return r
}

// readLists reads one list after the other until no call waits for one.
func (c *Cache) readLists(ctx context.Context, r *request) {
	for r != nil {
		start := clock()
		err := c.readList(ctx, start)
		if ctx.Err() == nil {
			c.problem(listingGrants, err)
		}
		if err != nil {
			r.err = fmt.Errorf("grants: %s: %w", names[listingGrants], err)
		}
		done := r.done
		c.mu.Lock()
		c.lists.finished = true
		c.schedule(start, clock(), err)
		r, c.lists.current, c.lists.queued = c.lists.queued, c.lists.queued, nil
		c.mu.Unlock()
		close(done)
	}
}

// schedule decides when Run asks for the next list.
func (c *Cache) schedule(start, now time.Time, err error) {
	every := c.opts.Every
	if err != nil {
		c.lists.failed++
		c.lists.due = now.Add(min(every, max(backoff(c.lists.failed, listGap, every), retryAfter(err))))
		c.lists.soonest = c.lists.due
		return
	}
	c.lists.failed = 0
	gap := min(every, max(listGap, 5*now.Sub(start)))
	c.lists.soonest = start.Add(gap + rand.N(gap/10+1))
	c.lists.due = start.Add(every - rand.N(every/10+1))
}

// readList asks for a list and adopts it if it's complete.
func (c *Cache) readList(ctx context.Context, start time.Time) error {
	c.mu.Lock()
	c.lists.asked, c.lists.missing = c.next(), map[string]struct{}{}
	l := &list{at: start, asked: c.lists.asked, account: c.last.account, ids: make(map[string]struct{}, len(c.last.ids))}
	c.mu.Unlock()
	expired := map[string]struct{}{}
	if err := c.fetch(ctx, l, expired); err != nil {
		return err
	}
	c.adopt(l, expired)
	return nil
}

// fetch reads a list into l and expired. An ID that's listed twice counts once.
func (c *Cache) fetch(ctx context.Context, l *list, expired map[string]struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.MaxAge, errTooOld)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	watchdog := time.AfterFunc(listSilence, func() { giveUp(errSilent) })
	defer watchdog.Stop()
	for g, err := range grantlist.Active(ctx, c.client) {
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		watchdog.Reset(listSilence)
		l.account = cmp.Or(l.account, g.DeveloperID)
		switch {
		case g.DeveloperID != "" && g.DeveloperID != l.account:
			return errOtherAccount
		case g.Status != active || !valid(g.ID):
		case !g.ExpiresAt.IsZero() && l.at.Sub(g.ExpiresAt) > expiredFor:
			expired[g.ID] = struct{}{}
		default:
			l.ids[g.ID] = struct{}{}
		}
	}
	if age(clock(), l.at) >= c.opts.MaxAge {
		return errTooOld
	}
	return nil
}

// runLists asks for lists until ctx ends.
func (c *Cache) runLists(ctx context.Context) {
	for soon := false; ; {
		c.mu.Lock()
		r, due := c.lists.current, c.lists.due
		if soon {
			due = c.lists.soonest
		}
		if r == nil && !clock().Before(due) {
			r, soon = c.list(), false
		}
		c.mu.Unlock()
		var done chan struct{}
		var next <-chan time.Time
		if r != nil {
			done = r.done
		} else {
			next = time.After(due.Sub(clock()))
		}
		select {
		case <-done:
		case <-next:
		case <-c.lists.poke:
			soon = true
		case <-ctx.Done():
			return
		}
	}
}

// listSoon asks Run for a list as soon as the gap allows.
func (c *Cache) listSoon() {
	select {
	case c.lists.poke <- struct{}{}:
	default:
	}
}
