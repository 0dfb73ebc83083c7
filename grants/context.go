package grants

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

const (
	middlewareWait = 2 * time.Second
	retrySeconds   = "5"
)

// A lease is an open Context.
type lease struct {
	entry  *entry // nil once it's closed
	index  int    // in entry.leases
	ctx    context.Context
	cancel context.CancelCauseFunc
	proved atomic.Bool // its check has succeeded
}

// Context returns a copy of ctx that ends when the grant ends, with the cause
// [ErrEnded]. It ends with [ErrStale] if nothing has proved for MaxAge that the grant
// is active. Use it for work that takes long, for example a stream. See
// [context.Cause].
//
// It checks the grant first, as Check does. If that fails, the context has already
// ended with the same error. Call the CancelFunc when the work is done, also after an
// error. Only Run keeps asking for the grant: without it, the context ends when MaxAge
// has passed, unless a check has asked meanwhile.
func (c *Cache) Context(ctx context.Context, grantID string) (context.Context, context.CancelFunc, error) {
	return c.open(ctx, grantID, checkWait)
}

// open registers the lease first. Otherwise a grant that ends between the check and
// the registration would leave it open.
func (c *Cache) open(parent context.Context, grantID string, wait time.Duration) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancelCause(parent)
	l := &lease{ctx: ctx, cancel: cancel}
	if valid(grantID) {
		c.register(l, grantID)
	}
	err := c.check(parent, grantID, wait)
	if err != nil {
		c.release(l)
		cancel(err)
		return ctx, func() {}, err
	}
	l.proved.Store(true)
	return ctx, func() { c.release(l); cancel(nil) }, nil
}

func (c *Cache) register(l *lease, grantID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entry(grantID)
	l.entry, l.index = e, len(e.leases)
	e.leases = append(e.leases, l)
	c.held[e] = true
	c.contexts++
	c.lookLater()
	if !c.running {
		return
	}
	if a := c.age(grantID, e, clock()); a > c.opts.MaxAge/2 && a < c.limit { // the next look may be too late
		c.questions.renewals = append(c.questions.renewals, grantID)
		c.fill()
	}
}

func (c *Cache) release(l *lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.entry != nil {
		c.remove(l)
	}
}

// remove closes a lease. It drops the entry if that was made for it.
func (t *table) remove(l *lease) {
	e, n := l.entry, len(l.entry.leases)-1
	last := e.leases[n]
	e.leases[l.index], last.index = last, l.index
	e.leases[n] = nil
	e.leases = e.leases[:n]
	l.entry = nil
	t.contexts--
	if n > 0 {
		return
	}
	delete(t.held, e)
	if e.known == 0 && e.ended.IsZero() {
		delete(t.entries, e.id)
	}
}

// take closes the leases of a grant that which selects, and returns them.
func (t *table) take(e *entry, which func(*lease) bool) (taken []*lease) {
	for i := len(e.leases) - 1; i >= 0; i-- { // remove moves the last one
		if l := e.leases[i]; which(l) {
			t.remove(l)
			taken = append(taken, l)
		}
	}
	return taken
}

// isDone reports whether the parent of a Context has ended.
func isDone(l *lease) bool { return l.ctx.Err() != nil }

func isProved(l *lease) bool { return l.proved.Load() }

func endAll(leases []*lease, cause error) {
	for _, l := range leases {
		l.cancel(cause)
	}
}

// lookLater sets the timer for look. c.mu is held.
func (c *Cache) lookLater() {
	if !c.looking && (c.running || c.contexts > 0) {
		c.looking = true
		time.AfterFunc(c.second, c.look)
	}
}

// look ends the Contexts of grants whose proof is too old, and asks for grants before
// that happens. It also notices that the machine was suspended, which a timer wouldn't.
func (c *Cache) look() {
	now := clock()
	c.mu.Lock()
	var stale []*lease
	for e := range c.held {
		c.take(e, isDone)
		if c.age(e.id, e, now) >= c.limit+c.second {
			stale = append(stale, c.take(e, isProved)...)
		}
	}
	if c.running {
		c.questions.renewals = c.aging(now)
		c.fill()
		c.sweep(now)
	}
	c.looking = false
	c.lookLater()
	c.mu.Unlock()
	endAll(stale, ErrStale)
}

// aging returns the grants to ask for again: those with a Context, and if no list comes
// also those that are watched, whose proof is older than half of MaxAge, the oldest
// first.
func (c *Cache) aging(now time.Time) []string {
	half := c.opts.MaxAge / 2
	ages := map[string]time.Duration{}
	add := func(e *entry) {
		if a := c.age(e.id, e, now); a > half && c.questions.pending[e.id] == nil {
			ages[e.id] = a
		}
	}
	for e := range c.held {
		if slices.ContainsFunc(e.leases, isProved) { // the others' checks ask by themselves
			add(e)
		}
	}
	if age(now, c.last.at) > half {
		for e := range c.watched {
			if c.opts.noLists() || now.Sub(e.wanted) > half { // a list may still come
				add(e)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(ages), func(a, b string) int { return cmp.Compare(ages[b], ages[a]) })
}

// Middleware passes requests with an active grant to the next handler. The context of
// the request is one from [Cache.Context], so it ends when the grant does. A handler
// that streams, or that serves a WebSocket, should return when its context ends.
//
// grantID returns the ID of the grant from a request's token, which it must have
// verified: its signature, exp, iss, aud, and that dev is your account, since Grantex
// signs the tokens of all accounts with the same key. It returns an error if there's no
// such token. The responses are:
//
//   - 401 with "WWW-Authenticate: Bearer" if grantID returns an error or an empty ID
//   - 401 with error="invalid_token" (RFC 6750, section 3.1) if the grant has ended
//   - 503 with Retry-After if that can't be known within two seconds
//
// Middleware panics if grantID is nil.
func (c *Cache) Middleware(grantID func(*http.Request) (string, error)) func(http.Handler) http.Handler {
	if grantID == nil {
		panic("grants: Middleware needs a function that returns the grant ID of a request")
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := grantID(r)
			if err != nil || id == "" {
				unauthorized(w, "Bearer")
				return
			}
			ctx, cancel, err := c.open(r.Context(), id, middlewareWait)
			defer cancel()
			switch {
			case err == nil:
				next.ServeHTTP(w, r.WithContext(ctx))
			case errors.Is(err, ErrEnded):
				unauthorized(w, `Bearer error="invalid_token", error_description="the grant has ended"`)
			default:
				w.Header().Set("Retry-After", retrySeconds)
				http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			}
		})
	}
}

func unauthorized(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
}
