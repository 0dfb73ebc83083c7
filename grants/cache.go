package grants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// The reasons for which a check fails. Match them with [errors.Is].
var (
	// ErrEnded means that the grant was revoked or deleted, belongs to another account,
	// or never existed. Reject the request; a retry won't help.
	ErrEnded = errors.New("grants: the grant has ended or doesn't exist")

	// ErrStale means that the Cache can't prove at the moment that the grant is active.
	// Reject the request and let the client retry later.
	ErrStale = errors.New("grants: can't verify now that the grant is active; try again later")
)

const (
	// protocolMaxAge is how old cached revocation state may be (SPEC 7.4).
	protocolMaxAge = 5 * time.Minute

	// checkWait is how long a check may wait for an answer.
	checkWait = 10 * time.Second

	// maxID is far longer than any ID that Grantex makes (31 bytes).
	maxID = 128
)

// clock is time.Now, except in tests of a machine that was suspended.
var clock = time.Now

// Options configures a [Cache]. The zero value is right for most services.
type Options struct {
	// MaxAge limits how old the knowledge may be on which a check succeeds. It's five
	// minutes if zero, the protocol's limit, and at least a second. With a short MaxAge
	// that lists can't keep up with, grants are asked for one by one.
	MaxAge time.Duration

	// Every is the time between two lists of all active grants. It's a minute if zero, or
	// half of MaxAge if that's less, and can't be longer than half of MaxAge. If it's
	// negative, Run doesn't ask for lists: set that if the account has too many grants to
	// list. Grantex may cut off a list of more than about 100,000 grants. While lists
	// fail, what was learned in their place isn't dropped from memory.
	Every time.Duration

	// NoStream turns off the live stream. Grantex allows five streams for each account, so
	// set NoStream from the sixth process on.
	NoStream bool

	// Ended is called with grants that have ended, whichever way that was found out: grants
	// that were known here or watched, and those that an event or a response named as
	// revoked. Use it to end sessions and delete what you hold for the grant. A grant that
	// expires isn't reported.
	//
	// Ended gets at most 1,000 IDs in a call, and runs once at a time. An error or a panic
	// means that it will be called with these IDs again, so it must be idempotent. Run calls
	// it, and so does Revoked. It must return when ctx ends, since Run waits for it. No lock
	// is held, so Ended may call any method of the Cache except Revoked, which would wait for
	// Ended to return.
	Ended func(ctx context.Context, grantIDs []string) error

	// Log is slog.Default() if nil. Errors need your attention, for example a rejected API
	// key. Each problem is logged when it begins and when it's over.
	Log *slog.Logger
}

// A Cache knows which grants of an account are active. Create it with [New]; the zero
// value isn't usable. All methods are safe for concurrent use.
type Cache struct {
	client *grantexapi.Client
	opts   Options       // with defaults
	limit  time.Duration // a proof of this age is too old for a check
	second time.Duration // between two looks at the Contexts

	mu        sync.RWMutex
	hits      atomic.Int64 // shares a cache line with mu, which each check writes to anyway
	table                  // what is known
	questions asking       // about single grants
	lists     listing      // of all active grants
	work      *work        // in flight
	running   bool         // Run
	looking   bool         // a timer for look is set

	wake      chan struct{} // a grant is in untold
	telling   chan struct{} // holds a value while Ended runs
	connected atomic.Bool
	problems  problems

	misses, ended, stale, questioned atomic.Int64
}

// New returns a Cache that asks client. opts may be nil. Nothing happens before the
// first call of a method. Without [Cache.Run], each grant is asked for by itself when
// it's checked, and nothing that was learned is ever dropped from memory.
func New(client *grantexapi.Client, opts *Options) (*Cache, error) {
	if client == nil {
		return nil, errors.New("grants: the client is nil; pass a *grantexapi.Client with the API key of your account")
	}
	if err := usable(client); err != nil {
		return nil, err
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Cache{client: client, opts: o, work: newWork(), wake: make(chan struct{}, 1), telling: make(chan struct{}, 1)}
	c.second = min(time.Second, o.MaxAge/10)
	c.limit = o.MaxAge - 2*c.second // a Context lasts a look longer, and may be missed by one
	c.table = newTable()
	c.questions.pending = map[string]*question{}
	c.lists.poke = make(chan struct{}, 1)
	c.lists.missing = map[string]struct{}{}
	return c, nil
}

// usable returns the error of a Client that can't make a request.
func usable(client *grantexapi.Client) error {
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := client.Grant(ended, "grnt_"); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("grants: the client can't be used: %w", err)
	}
	return nil
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	o.MaxAge = cmp.Or(o.MaxAge, protocolMaxAge)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.MaxAge < time.Second || o.MaxAge > protocolMaxAge {
		return fmt.Errorf("grants: Options.MaxAge is %v; it must be from one second to five minutes, the protocol's limit", o.MaxAge)
	}
	o.Every = cmp.Or(o.Every, min(time.Minute, o.MaxAge/2))
	if o.Every > o.MaxAge/2 {
		return fmt.Errorf("grants: Options.Every is %v; it can't be longer than half of MaxAge (%v)", o.Every, o.MaxAge/2)
	}
	return nil
}

// noLists reports whether Run doesn't ask for lists.
func (o *Options) noLists() bool { return o.Every < 0 }

// Check returns nil if the grant is active, an error that matches [ErrEnded] if it
// isn't, or one that matches [ErrStale] if that can't be known at the moment.
//
// A grant that was seen less than MaxAge ago is answered from memory. For any other,
// Check asks Grantex, and waits for at most ten seconds or until ctx ends. Concurrent
// checks of a grant share one request. Check doesn't retry. If Grantex can't be reached,
// is too slow, or has limited the rate of calls, the error matches ErrStale.
func (c *Cache) Check(ctx context.Context, grantID string) error {
	return c.check(ctx, grantID, checkWait)
}

// check waits for at most wait.
func (c *Cache) check(ctx context.Context, grantID string, wait time.Duration) error {
	if !valid(grantID) {
		return c.recall(ended)
	}
	now := clock()
	c.mu.RLock()
	v := c.verdict(grantID, now)
	c.mu.RUnlock()
	if v != unproved {
		return c.recall(v)
	}
	return c.miss(ctx, grantID, wait)
}

// recall counts an answer from memory.
func (c *Cache) recall(v verdict) error {
	c.hits.Add(1)
	if v == ended {
		c.ended.Add(1)
		return ErrEnded
	}
	return nil
}

// miss asks for a grant that memory doesn't answer.
func (c *Cache) miss(ctx context.Context, grantID string, wait time.Duration) error {
	c.misses.Add(1)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := c.ask(ctx, grantID)
	switch {
	case errors.Is(err, ErrEnded):
		c.ended.Add(1)
	case err != nil:
		c.stale.Add(1)
	}
	return err
}

// valid reports whether an ID can be a grant's.
func valid(grantID string) bool { return grantID != "" && len(grantID) <= maxID }

// Status describes a [Cache] at a moment, for health checks and metrics. The counters
// start at zero with New. Each check counts as a hit or a miss, and so do
// [Cache.Context] and each request through [Cache.Middleware].
type Status struct {
	ListAge  time.Duration // how old the last complete list is; before the first, how old the Cache is
	Grants   int           // grants in memory that haven't ended
	Untold   int           // ended grants that Ended hasn't been called with successfully
	Contexts int           // open Contexts

	Connected bool // the live stream is connected

	Hits      int64 // checks that memory answered
	Misses    int64 // checks that had to ask, or couldn't
	Ended     int64 // checks that returned ErrEnded
	Stale     int64 // checks that returned ErrStale
	Questions int64 // requests for a single grant

	Err error // what doesn't work at the moment, or nil; the text may have several lines
}

// Status returns the state of the Cache. It doesn't ask Grantex.
func (c *Cache) Status() Status {
	now := clock()
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Status{
		ListAge: age(now, c.last.at), Grants: c.known(), Untold: len(c.untold), Contexts: c.contexts,
		Connected: c.connected.Load(),
		Hits:      c.hits.Load(), Misses: c.misses.Load(),
		Ended: c.ended.Load(), Stale: c.stale.Load(), Questions: c.questioned.Load(),
		Err: c.problems.err(),
	}
}
