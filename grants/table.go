package grants

import (
	"math"
	"slices"
	"time"
)

// A table is what is known about grants. It has no lock of its own.
//
// Requests, responses and events are ordered by turns, not by clocks: a response can
// only end a grant that was known before its request was sent.
type table struct {
	turn    int64             // the last one
	last    *list             // the last complete list; never nil
	entries map[string]*entry // what the list doesn't say
	held    map[*entry]bool   // those with a Context
	watched map[*entry]bool   // by Watch
	untold  []*entry          // ended, and not yet reported to Ended

	contexts int
	swept    time.Time
}

// A list is the set of active grants at a moment. It doesn't change once it's complete.
type list struct {
	at      time.Time // before it was asked for
	asked   int64     // the turn of the request
	came    int64     // the turn at which it was complete
	account string    // the developerId
	ids     map[string]struct{}
}

// An entry is what is known about a grant apart from the list.
type entry struct {
	id     string
	at     time.Time // before the request was sent whose response proved it last
	known  int64     // the turn since which it's known or watched, or 0
	wanted time.Time // when it was last asked for, or watched
	ended  time.Time // when that was last found out; zero unless it has ended
	told   bool      // Ended has succeeded
	leases []*lease  // its Contexts
}

type verdict uint8

const (
	unproved verdict = iota
	proved
	ended
)

func newTable() table {
	return table{
		last: &list{at: clock()}, entries: map[string]*entry{},
		held: map[*entry]bool{}, watched: map[*entry]bool{},
	}
}

// age is the larger of the ages by the monotonic clock and by the wall clock. The
// first stands still while a machine is suspended, and the second can be set back.
func age(now, at time.Time) time.Duration {
	return max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
}

func (l *list) has(id string) bool {
	_, ok := l.ids[id]
	return ok
}

func (t *table) next() int64 {
	t.turn++
	return t.turn
}

// age returns how long ago it was proved that a grant is active. e may be nil.
func (t *table) age(id string, e *entry, now time.Time) time.Duration {
	a := time.Duration(math.MaxInt64)
	if t.last.has(id) {
		a = age(now, t.last.at)
	}
	if e != nil && !e.at.IsZero() {
		a = min(a, age(now, e.at))
	}
	return a
}

func (c *Cache) verdict(id string, now time.Time) verdict {
	e := c.entries[id]
	switch {
	case e != nil && !e.ended.IsZero():
		return ended
	case c.age(id, e, now) < c.limit:
		return proved
	}
	return unproved
}

// entry returns the entry of a grant, a new one if there isn't one.
func (t *table) entry(id string) *entry {
	e := t.entries[id]
	if e == nil {
		e = &entry{id: id}
		t.entries[id] = e
	}
	return e
}

// prove records that a grant was active after at.
func (t *table) prove(id string, at, now time.Time) {
	e := t.entry(id)
	e.at, e.wanted = at, now
	t.meet(e)
}

// meet makes a grant known from now on, if it isn't.
func (t *table) meet(e *entry) {
	if e.known == 0 {
		e.known = t.next()
	}
}

// knew reports whether a grant was known before a turn.
func (t *table) knew(id string, turn int64) bool {
	e := t.entries[id]
	return t.last.has(id) && t.last.came < turn || e != nil && e.known != 0 && e.known < turn
}

// known counts the grants that haven't ended.
func (t *table) known() int {
	n := len(t.last.ids)
	for id, e := range t.entries {
		switch listed := t.last.has(id); {
		case listed && !e.ended.IsZero():
			n--
		case !listed && e.ended.IsZero() && e.known != 0:
			n++
		}
	}
	return n
}

// end marks grants as ended and ends their Contexts. What has ended stays ended: no
// response that was in flight when that became known can revive it.
func (c *Cache) end(ids ...string) {
	var leases []*lease
	now := clock()
	c.mu.Lock()
	for _, id := range ids {
		if valid(id) {
			leases = append(leases, c.mark(id, now)...)
		}
	}
	c.mu.Unlock()
	endAll(leases, ErrEnded)
	c.nudge()
}

// mark returns the Contexts that end with the grant.
func (c *Cache) mark(id string, now time.Time) []*lease {
	e := c.entry(id)
	known := !e.ended.IsZero()
	e.ended = now
	if known {
		return nil
	}
	delete(c.watched, e)
	c.report(e)
	return c.take(e, func(*lease) bool { return true })
}

// report puts an ended grant on the list for Ended.
func (c *Cache) report(e *entry) {
	e.told = c.opts.Ended == nil
	if !e.told {
		c.untold = append(c.untold, e)
	}
}

// adopt makes l the last list. It ends the grants that aren't in it or in expired,
// and were known before it was asked for. Those that became known since may be newer
// than the list.
func (c *Cache) adopt(l *list, expired map[string]struct{}) {
	for gone := range slices.Chunk(c.missing(l, expired), 128) { // checks wait meanwhile
		c.end(gone...)
	}
	now := clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	l.came = c.next()
	c.last = l
	for id := range c.lists.missing {
		if _, old := expired[id]; old || l.has(id) {
			delete(expired, id)
			delete(l.ids, id)
			c.meet(c.entry(id))
		}
	}
	for id, e := range c.entries {
		if _, old := expired[id]; old && e.at.Before(l.at) {
			e.at = l.at
			c.meet(e)
		}
	}
	c.drop(now, func(e *entry) bool {
		_, old := expired[e.id]
		return l.has(e.id) || old && c.idle(e, now)
	})
}

// missing returns the grants that the list ends.
func (c *Cache) missing(l *list, expired map[string]struct{}) (gone []string) {
	alive := func(id string) bool {
		_, old := expired[id]
		return old || l.has(id)
	}
	c.mu.RLock()
	last := c.last
	for id, e := range c.entries {
		if e.known != 0 && e.known < l.asked && e.ended.IsZero() && !alive(id) {
			gone = append(gone, id)
		}
	}
	c.mu.RUnlock()
	for id := range last.ids {
		if !alive(id) {
			gone = append(gone, id)
		}
	}
	return gone
}

// sweep drops what is old, once in MaxAge. Without lists, that includes grants that are
// active.
func (c *Cache) sweep(now time.Time) {
	if now.Sub(c.swept) <= c.opts.MaxAge {
		return
	}
	c.swept = now
	c.drop(now, func(e *entry) bool { return c.opts.noLists() && c.idle(e, now) })
}

// idle reports whether a grant wasn't checked in the last MaxAge. A check is only
// noticed if the proof from an earlier one was already too old.
func (c *Cache) idle(e *entry, now time.Time) bool { return now.Sub(e.wanted) > 2*c.opts.MaxAge }

// drop removes entries that aren't needed: those that have ended, once that's reported
// and every response is too old that was in flight at the time, and others that are
// useless by themselves. The monotonic clock alone decides: while it stands still, an
// entry only stays longer.
func (c *Cache) drop(now time.Time, useless func(*entry) bool) {
	for id, e := range c.entries {
		switch {
		case !e.ended.IsZero():
			if e.told && now.Sub(e.ended) > c.opts.MaxAge {
				delete(c.entries, id)
			}
		case !c.held[e] && !c.watched[e] && useless(e):
			delete(c.entries, id)
		}
	}
}
