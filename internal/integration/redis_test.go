package integration

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/redisstore"
	"grantex.dev/grantexhook/storetest"
)

func redisOptions(t testing.TB) *redis.Options {
	t.Helper()
	opts, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal("GRANTEXHOOK_TEST_REDIS is not a URL of Redis") // the error would quote it
	}
	opts.ContextTimeoutEnabled = true
	return opts
}

// newRedis returns a client and a prefix that no other test has. Its keys are removed
// after the test.
func newRedis(t testing.TB) (client *redis.Client, prefix string) {
	t.Helper()
	client = redis.NewClient(redisOptions(t))
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		absent(t, "Redis", "GRANTEXHOOK_TEST_REDIS", err)
	}
	prefix = randomName() + ":"
	t.Cleanup(func() { removeKeys(t, client, prefix) })
	return client, prefix
}

func removeKeys(t testing.TB, client *redis.Client, prefix string) {
	ctx := context.Background()
	var keys []string
	found := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for found.Next(ctx) {
		keys = append(keys, found.Val())
	}
	require.NoError(t, found.Err())
	if len(keys) > 0 {
		require.NoError(t, client.Unlink(ctx, keys...).Err())
	}
}

func newRedisStore(t testing.TB, client redis.UniversalClient, prefix string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(client, &redisstore.Options{Prefix: prefix})
	require.NoError(t, err)
	return s
}

func TestRedisStore(t *testing.T) {
	t.Parallel()
	client, prefix := newRedis(t)
	s := newRedisStore(t, client, prefix)
	storetest.Run(t, func(*testing.T) grantexhook.Store { return s })
}
