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

// A kind of client has options that New knows.
type kind struct {
	name string
	make func(addr string, heedsDeadlines bool) redis.UniversalClient
}

var kinds = []kind{
	{"Client", func(addr string, heeds bool) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: heeds})
	}},
	{"ClusterClient", func(addr string, heeds bool) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, ContextTimeoutEnabled: heeds})
	}},
	{"Ring", func(addr string, heeds bool) redis.UniversalClient {
		return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addr}, ContextTimeoutEnabled: heeds})
	}},
}

// failovers are of the same types. They take seconds to close if they were used
// where no Sentinel answers.
var failovers = []kind{
	{"failover Client", func(addr string, heeds bool) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "a", SentinelAddrs: []string{addr}, ContextTimeoutEnabled: heeds})
	}},
	{"failover ClusterClient", func(addr string, heeds bool) redis.UniversalClient {
		return redis.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "a", SentinelAddrs: []string{addr}, ContextTimeoutEnabled: heeds})
	}},
}

func TestNewRefusesDeafClients(t *testing.T) {
	for _, kind := range slices.Concat(kinds, failovers) {
		t.Run(kind.name, func(t *testing.T) {
			deaf := kind.make("127.0.0.1:1", false)
			defer deaf.Close()
			s, err := redisstore.New(deaf, nil)
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

func TestNewRefusesNil(t *testing.T) {
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

// Of a client that is none of go-redis', New cannot know.
func TestNewTakesOtherClients(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	_, err := redisstore.New(struct{ *redis.Client }{client}, nil)
	require.NoError(t, err)
}

// A Redis that does not answer holds nobody beyond the deadline. Without
// ContextTimeoutEnabled it would for five seconds.
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
