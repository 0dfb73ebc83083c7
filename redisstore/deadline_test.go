package redisstore_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/redisstore"
)

// A kind is a type of client whose options New checks.
type kind struct {
	name string
	make func(addr string, respectsDeadlines bool) redis.UniversalClient
}

var kinds = []kind{
	{"Client", func(addr string, respects bool) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: respects})
	}},
	{"ClusterClient", func(addr string, respects bool) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, ContextTimeoutEnabled: respects})
	}},
	{"Ring", func(addr string, respects bool) redis.UniversalClient {
		return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addr}, ContextTimeoutEnabled: respects})
	}},
}

// failovers make clients of the same types. After use without a Sentinel, these take
// seconds to close.
var failovers = []kind{
	{"failover Client", func(addr string, respects bool) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "a", SentinelAddrs: []string{addr}, ContextTimeoutEnabled: respects})
	}},
	{"failover ClusterClient", func(addr string, respects bool) redis.UniversalClient {
		return redis.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "a", SentinelAddrs: []string{addr}, ContextTimeoutEnabled: respects})
	}},
}

func TestNewRejectsClientsThatIgnoreDeadlines(t *testing.T) {
	for _, kind := range slices.Concat(kinds, failovers) {
		t.Run(kind.name, func(t *testing.T) {
			ignores := kind.make("127.0.0.1:1", false)
			defer ignores.Close()
			s, err := redisstore.New(ignores, nil)
			require.Nil(t, s)
			require.ErrorContains(t, err, "redisstore: ")
			require.ErrorContains(t, err, "set ContextTimeoutEnabled: true")

			client := kind.make("127.0.0.1:1", true)
			defer client.Close()
			s, err = redisstore.New(client, nil)
			require.NoError(t, err)
			require.NotNil(t, s)
		})
	}
}

func TestNewRejectsNil(t *testing.T) {
	tests := []struct {
		name   string
		client redis.UniversalClient
	}{
		{"nil", nil},
		{"Client", (*redis.Client)(nil)},
		{"ClusterClient", (*redis.ClusterClient)(nil)},
		{"Ring", (*redis.Ring)(nil)},
		{"another", (*struct{ *redis.Client })(nil)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := redisstore.New(test.client, nil)
			require.Nil(t, s)
			require.EqualError(t, err, "redisstore: the client is nil; make one with redis.NewClient")
		})
	}
}

// TestNewAcceptsOtherClients checks that New accepts a type whose options it can't check.
func TestNewAcceptsOtherClients(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	_, err := redisstore.New(struct{ *redis.Client }{client}, nil)
	require.NoError(t, err)
}

// TestHungServer checks that calls return after the deadline. Without
// ContextTimeoutEnabled they would return after five seconds.
func TestHungServer(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			var p proxy
			p.mute.Store(true)
			client := kind.make(p.listen(t, options(t)).Addr, true)
			t.Cleanup(func() { client.Close() })
			wantDeadline(t, newStore(t, client, "unused:"))
		})
	}
}

func TestServerThatHangsLater(t *testing.T) {
	_, direct, prefix := open(t)
	var p proxy
	s := newStore(t, dial(t, p.listen(t, direct.Options())), prefix)
	want(t, s, "id", free)
	p.mute.Store(true)
	wantDeadline(t, s)
}

func wantDeadline(t *testing.T, s *redisstore.Store) {
	t.Helper()
	for _, c := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := c.call(ctx, s, "id")
		require.Less(t, time.Since(start), 2*time.Second, c.name)
		require.ErrorContains(t, err, "redisstore: "+c.name+": ")
	}
}

func TestNoServer(t *testing.T) {
	l := listenLoopback(t)
	require.NoError(t, l.Close())
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			client := kind.make(l.Addr().String(), true)
			t.Cleanup(func() { client.Close() })
			wantDeadline(t, newStore(t, client, "unused:"))
		})
	}
}
