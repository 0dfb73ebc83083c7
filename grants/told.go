package grants

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"grantex.dev/grantexhook"
)

// maxTold is how many grants Ended gets at once.
const maxTold = 1000

// Revoked handles a webhook: pass it to [grantexhook.On]. It ends the grant and calls
// Options.Ended with it, unless that has been done since. If Ended fails, so does
// Revoked, and Grantex delivers the event again. If grants ended with it whose IDs
// Grantex doesn't report, it makes Run ask for a list.
func (c *Cache) Revoked(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
	id := e.Data.GrantID
	if e.Data.Cascade || !valid(id) {
		c.listSoon()
	}
	if !valid(id) {
		return errors.New("grants: a grant.revoked event has no valid grantId; Run asks for a list of all active grants instead")
	}
	c.end(id)
	_, err := c.tell(ctx, func(e *entry) bool { return e.id == id })
	return err
}

// MarkEnded ends exactly these grants: for example those that Options.Ended of another
// process was called with. Invalid IDs are ignored.
func (c *Cache) MarkEnded(grantIDs ...string) { c.end(grantIDs...) }

// Watch makes sure that Options.Ended is called with these grants if they have ended,
// or when they end. Call it at startup with the grants that you hold something for.
// They must have been active once: a grant that has just been created may not be in
// the first list yet, and would count as ended. Invalid IDs are ignored.
func (c *Cache) Watch(grantIDs ...string) {
	now := clock()
	c.mu.Lock()
	for _, id := range grantIDs {
		if valid(id) {
			c.watch(c.entry(id), now)
		}
	}
	c.mu.Unlock()
	c.nudge()
}

func (c *Cache) watch(e *entry, now time.Time) {
	switch {
	case e.ended.IsZero():
		c.watched[e] = true
		if e.known == 0 {
			e.wanted = now
		}
		c.meet(e)
	case e.told: // before what's held for it now
		c.report(e)
	}
}

// nudge makes Run call Ended if a grant is waiting for that.
func (c *Cache) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// runTelling reports ended grants to Ended until ctx ends.
func (c *Cache) runTelling(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		told, err := c.tell(ctx, func(*entry) bool { return true })
		if err == nil || ctx.Err() == nil {
			c.problem(callingEnded, err)
		}
		switch {
		case err != nil:
			failures++
			sleep(ctx, backoff(failures, minBackoff, time.Minute))
		case told > 0:
			failures = 0
		default:
			select {
			case <-c.wake:
			case <-ctx.Done():
			}
		}
	}
}

// tell calls Ended with the grants that which selects, at most maxTold of them, and
// returns how many these were.
func (c *Cache) tell(ctx context.Context, which func(*entry) bool) (told int, err error) {
	select {
	case c.telling <- struct{}{}:
		defer func() { <-c.telling }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	var batch []*entry
	var ids []string
	c.mu.RLock()
	for _, e := range c.untold {
		if which(e) && len(batch) < maxTold {
			batch, ids = append(batch, e), append(ids, e.id)
		}
	}
	c.mu.RUnlock()
	if len(batch) == 0 {
		return 0, nil
	}
	if err := c.callEnded(ctx, ids); err != nil {
		return 0, err
	}
	c.tick(batch)
	return len(batch), nil
}

// tick marks grants as told.
func (c *Cache) tick(batch []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range batch {
		e.told = true
	}
	c.untold = slices.DeleteFunc(c.untold, func(e *entry) bool { return e.told })
}

func (c *Cache) callEnded(ctx context.Context, ids []string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &grantexhook.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return c.opts.Ended(ctx, ids)
}
