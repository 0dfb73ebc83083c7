// Package redisstore remembers in Redis which events are being handled and which are
// done. Several processes can then share the events, and each event is handled once. A
// [Store] goes into a Dispatcher of grantex.dev/grantexhook:
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
//	store, err := redisstore.New(client, nil)
//	if err != nil {
//		log.Fatal(err)
//	}
//	d := grantexhook.Dispatcher{Store: store}
//
// Each event is one key with a short value. While the event is being handled, the value
// is a random number that expires after twice the Dispatcher's Timeout. Afterwards it's a
// mark that expires after 24 hours. A mark takes less than 200 bytes of memory, including
// Redis's own tables.
//
// # Requirements
//
//   - Redis 7 or later, or Valkey. With Redis 6 every Claim fails with "ERR syntax
//     error". A cluster works, since no command has more than one key.
//   - maxmemory-policy noeviction, if maxmemory is set. Any other policy may evict the
//     mark of an event, which is then handled again. Leave room for a day of events:
//     when Redis is full, Claim and Done fail with "OOM command not allowed". New events
//     then get 503 and are retried. An event that was just handled can't be marked, so a
//     duplicate is handled again after the lease.
//   - appendonly yes. Events that a restart forgets are handled again.
//   - An ACL with "~grantexhook:* +set +get +del +eval", or your prefix. Some clients
//     need more: "+select" for a database other than 0, "+client|setname" for a
//     ClientName and "+cluster|slots +command" for a cluster. A cluster client with
//     ReadOnly, RouteByLatency or RouteRandomly also needs "+readonly". A [redis.Ring]
//     needs "+ping", without which it considers its shards down.
//
// # Limits
//
// Redis replicates after it has responded, so a failover may lose the last claims and
// marks. So may a crash: append-only files are synced once a second by default (see
// appendfsync). Such an event is handled again, perhaps by two processes at once. When a
// shard of a [redis.Ring] is down, its keys move to other shards, with the same result.
// Your handlers must be idempotent in any case.
//
// After a failover, a connection may lead to a server that is now a replica. Redis then
// returns READONLY, and the client closes the connection and tries another one.
//
// Redis measures leases with its own clock, which doesn't follow the fake clock of a
// testing/synctest bubble. Use a grantexhook.MemoryStore there.
//
// Each service needs its own prefix. A second service with the same prefix would find
// events that it never saw marked as done.
package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	defaultPrefix = "grantexhook:"

	// doneMark isn't a number, so it can't be a claim's token.
	doneMark = "done"

	// release compares text, since a token has more digits than a number in Lua can.
	// It's sent without [redis.Script], which computes a SHA-1 and so panics under
	// GODEBUG=fips140=only.
	release = `if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end return 0`
)

// Options configures [New]. The zero value is ready to use.
type Options struct {
	// Prefix starts every key and is followed by the event's id. It's "grantexhook:"
	// if empty. Each service needs a different one.
	Prefix string
}

// A Store keeps events in Redis, as the Store of a grantexhook.Dispatcher. It's immutable
// and safe for concurrent use. Several processes may use the same Redis and prefix. Make
// one with [New]: the methods of the zero value panic.
//
// The methods' errors wrap the client's. They contain neither a password nor a stored
// value. After a context's deadline, an error may be a network timeout that doesn't match
// [context.DeadlineExceeded].
//
// Leases and times to keep are rounded up to whole milliseconds, and to at least one.
type Store struct {
	client redis.UniversalClient
	prefix string
}

// New returns a Store that uses client. It sends no command, and you close the client
// yourself. A nil opts is the zero [Options].
//
// New returns an error if client is nil. It also rejects a [redis.Client],
// [redis.ClusterClient] or [redis.Ring] without ContextTimeoutEnabled, which would wait
// beyond a context's deadline. When Redis hung, Claim took 10.0 s with such a client, and
// Grantex had hung up by then. Done and Release took 5.0 s. With the option they took the
// 9 s and 2 s that a Dispatcher allows. A client of another type must respect deadlines
// too, but New can't check that.
func New(client redis.UniversalClient, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("redisstore: the client is nil; make one with redis.NewClient")
	}
	if !respectsDeadlines(client) {
		return nil, errors.New("redisstore: the client ignores the deadline of a context; set ContextTimeoutEnabled: true in its options")
	}
	return &Store{client, cmp.Or(opts.Prefix, defaultPrefix)}, nil
}

func respectsDeadlines(client redis.UniversalClient) bool {
	switch c := client.(type) {
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return c.Options().ContextTimeoutEnabled
	}
	return true // unknown
}

// Claim claims id for the duration of lease if it is free, and returns a positive random
// token. Token 0 without an error means that id is done or, if done is false, that another
// claim holds it.
//
// It fails if Redis does, if ctx has ended, or if the key of id holds something else. If
// Redis claimed id but its response got lost, id stays claimed until the lease expires.
func (s *Store) Claim(ctx context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	token = 1 + rand.Int64N(math.MaxInt64)
	args := redis.SetArgs{Mode: "NX", Get: true, TTL: wholeMillis(lease)}
	found, err := s.client.SetArgs(ctx, s.prefix+id, token, args).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return token, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("redisstore: claim: %w", err)
	case found == doneMark:
		return 0, true, nil
	}
	holder, err := strconv.ParseInt(found, 10, 64)
	switch {
	case err != nil: // it quotes the value, so it isn't wrapped
		return 0, false, fmt.Errorf("redisstore: claim: the key %q holds neither a claim nor a mark; use a prefix that no other program uses", s.prefix+id)
	case holder == token:
		// The client retried a command whose response got lost (MaxRetries), and the
		// first try had claimed id. Reporting it as held by another claim would block id
		// until the lease expires.
		return token, false, nil
	}
	return 0, false, nil
}

// Done marks id as done for the duration of keep, even if another claim holds it. Then id
// is free again. Done fails if Redis does or if ctx has ended.
func (s *Store) Done(ctx context.Context, id string, keep time.Duration) error {
	if err := s.client.Set(ctx, s.prefix+id, doneMark, wholeMillis(keep)).Err(); err != nil {
		return fmt.Errorf("redisstore: done: %w", err)
	}
	return nil
}

// Release frees id if it is still claimed with this token. Otherwise it changes no entry
// and returns nil. It fails if Redis does or if ctx has ended.
func (s *Store) Release(ctx context.Context, id string, token int64) error {
	if token == 0 {
		return nil
	}
	if err := s.client.Eval(ctx, release, []string{s.prefix + id}, token).Err(); err != nil {
		return fmt.Errorf("redisstore: release: %w", err)
	}
	return nil
}

// wholeMillis rounds d up to whole milliseconds, at least one. The client would round
// down and treat zero as no expiry.
func wholeMillis(d time.Duration) time.Duration {
	d = min(d, math.MaxInt64-time.Millisecond) + time.Millisecond - 1
	return max(d.Truncate(time.Millisecond), time.Millisecond)
}
