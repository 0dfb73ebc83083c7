// Package redisstore remembers in Redis which events are being handled and which
// have been, so that several processes share the work and each event is handled
// once. A [Store] goes into a Dispatcher of grantex.dev/grantexhook:
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
//	store, err := redisstore.New(client, nil)
//	if err != nil {
//		log.Fatal(err)
//	}
//	d := grantexhook.Dispatcher{Store: store}
//
// An event is one key with a short value: while it is being handled a random
// number, for twice the Dispatcher's Timeout, and then a mark, for the 24 hours
// that a Dispatcher has it kept. Redis itself forgets both. A mark was seen to take
// less than 200 bytes, Redis' own tables included.
//
// # What Redis has to be
//
//   - Redis 7 or later, or Valkey. Redis 6 answers every Claim with "ERR syntax
//     error". A cluster will do: no command has more than one key.
//   - With maxmemory-policy noeviction, if there is a maxmemory. Any other policy
//     may evict the mark of an event, which is then handled again. When Redis is
//     full, Claim and Done fail with "OOM command not allowed". New events get 503
//     and are retried. An event that was just handled can't be marked, so a duplicate
//     is handled again once the lease has expired. Leave room for a day of events.
//   - With appendonly yes. What a restart forgets is handled again.
//   - Open to the commands SET, GET, DEL and EVAL on the keys with the prefix:
//     "~grantexhook:* +set +get +del +eval". The client itself needs more in some
//     setups: "+select" for a database other than 0; "+cluster|slots +command" for
//     a cluster, and "+readonly" too if ReadOnly, RouteByLatency or RouteRandomly
//     is set; "+client|setname" for a ClientName; and "+ping" for a [redis.Ring],
//     which otherwise considers its shards down.
//
// After a failover, a connection may lead to a server that has become a replica.
// Redis then answers READONLY, and the client closes the connection and tries
// another one.
//
// # What it does not promise
//
// Redis replicates after it has answered, so a failover may forget the last
// claims and marks, and append-only files are written once a second unless
// appendfsync says otherwise. An event whose claim or mark is forgotten is handled
// again, perhaps by two processes at once. With a [redis.Ring], so are those of a
// shard that is found to be down, since its keys move to others. Handlers have to
// bear a repetition in any case.
//
// Redis measures leases with its own clock, which doesn't follow the fake clock of a
// testing/synctest bubble. Use a grantexhook.MemoryStore there.
//
// A prefix belongs to one service: a second one with the same prefix would be
// told "done" of events that it never saw.
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

	// doneMark is no number, and so not the token of any claim.
	doneMark = "done"

	// release compares text, since a token has more digits than a number in Lua.
	// It goes out as it is, without [redis.Script]: that makes a SHA-1, which
	// panics where GODEBUG is fips140=only.
	release = `if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end return 0`
)

// Options are the choices that [New] offers. The zero value is ready to use.
type Options struct {
	// Prefix is what every key begins with, before the id of the event:
	// "grantexhook:" if empty. Each service needs one of its own.
	Prefix string
}

// A Store keeps events in Redis, as the Store of a grantexhook.Dispatcher. It is
// immutable and safe for concurrent use, by any number of processes with the same
// Redis and prefix. The zero value has no client, and its methods panic.
//
// The errors of its methods wrap those of the client. They hold no password, and
// no value that was stored. When the deadline of a context has passed, that may be
// a time-out of the network rather than [context.DeadlineExceeded].
//
// Leases and times to keep are rounded up to whole milliseconds, at least one.
type Store struct {
	client redis.UniversalClient
	prefix string
}

// New returns a Store that asks client, which stays the caller's to close. A nil
// opts is the zero [Options]. Nothing is sent to Redis yet.
//
// It is an error if client is nil, or if it is a [redis.Client], a
// [redis.ClusterClient] or a [redis.Ring] without ContextTimeoutEnabled, which
// waits for an answer beyond the deadline of its context. When Redis stopped
// answering, such a client returned after 10.0 s, when the sender had hung up
// already, and after 5.0 s for Done and Release; with it, after the 9 and the 2
// seconds that a Dispatcher allows. A client of another type has to heed deadlines
// of its own accord.
func New(client redis.UniversalClient, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("redisstore: the client is nil; make one with redis.NewClient")
	}
	if !heedsDeadlines(client) {
		return nil, errors.New("redisstore: the client would wait for Redis beyond the deadline of a context; set ContextTimeoutEnabled: true in its options")
	}
	return &Store{client, cmp.Or(opts.Prefix, defaultPrefix)}, nil
}

func heedsDeadlines(client redis.UniversalClient) bool {
	switch c := client.(type) {
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return c.Options().ContextTimeoutEnabled
	}
	return true // as far as anyone can tell
}

// Claim claims id for the time of lease if it is free, and returns a random token
// that is positive. Token 0 without an error means that id is done, if done is
// set, and otherwise that someone else holds it.
//
// It fails if Redis does, if ctx has ended, or if there is something else at the
// key of id. If Redis claimed id and its answer was lost, the claim stands, with
// nobody to hold it, until the lease ends.
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
	case err != nil: // which quotes what was found
		return 0, false, fmt.Errorf("redisstore: claim: the key %q holds something else; does another program use this prefix?", s.prefix+id)
	case holder == token:
		// The client repeats a command whose answer was lost (MaxRetries), and
		// here the first one had claimed id. To call that held by someone else
		// would leave it to nobody until the lease ends.
		return token, false, nil
	}
	return 0, false, nil
}

// Done marks id as done for the time of keep, after which it is free, whoever
// holds it now. It fails if Redis does, or if ctx has ended.
func (s *Store) Done(ctx context.Context, id string, keep time.Duration) error {
	if err := s.client.Set(ctx, s.prefix+id, doneMark, wholeMillis(keep)).Err(); err != nil {
		return fmt.Errorf("redisstore: done: %w", err)
	}
	return nil
}

// Release frees id if it is still claimed with this token, and otherwise does
// nothing. It fails if Redis does, or if ctx has ended.
func (s *Store) Release(ctx context.Context, id string, token int64) error {
	if token == 0 {
		return nil
	}
	if err := s.client.Eval(ctx, release, []string{s.prefix + id}, token).Err(); err != nil {
		return fmt.Errorf("redisstore: release: %w", err)
	}
	return nil
}

// wholeMillis rounds d up to what Redis counts in. The client would round down,
// and take zero for no expiry at all.
func wholeMillis(d time.Duration) time.Duration {
	d = min(d, math.MaxInt64-time.Millisecond) + time.Millisecond - 1
	return max(d.Truncate(time.Millisecond), time.Millisecond)
}
