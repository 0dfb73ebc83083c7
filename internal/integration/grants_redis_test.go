package integration

import (
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// passOn returns a Cache that shares what it learns with others, as the documentation of
// package grants shows.
func passOn(ctx context.Context, client *grantexapi.Client, rdb *redis.Client, channel string, opts grants.Options) (*grants.Cache, error) {
	opts.Ended = func(ctx context.Context, grantIDs []string) error {
		return rdb.Publish(ctx, channel, strings.Join(grantIDs, " ")).Err()
	}
	cache, err := grants.New(client, &opts)
	if err != nil {
		return nil, err
	}
	go func() {
		for m := range rdb.Subscribe(ctx, channel).Channel() {
			cache.MarkEnded(strings.Fields(m.Payload)...)
		}
	}()
	return cache, nil
}

// TestGrantsOverRedis checks that a Cache without a stream and without lists learns from
// another one which grants ended, and that a grant isn't passed on for ever.
func TestGrantsOverRedis(t *testing.T) {
	t.Parallel()
	rdb, channel := newRedis(t)
	api := hooktest.NewAPI()
	t.Cleanup(api.Close)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	client := &grantexapi.Client{APIKey: "key", BaseURL: server.URL}
	told := rdb.Subscribe(t.Context(), channel)
	defer told.Close()

	listening := runCache(t, client, rdb, channel, grants.Options{Every: time.Second})
	deaf := runCache(t, client, rdb, channel, grants.Options{NoStream: true, Every: -1})
	eventually(t, func() bool {
		n, err := rdb.PubSubNumSub(t.Context(), channel).Result()
		return err == nil && n[channel] == 3
	})
	eventually(t, func() bool { // an event comes before the first keepalive
		api.Create(grantexhook.GrantCreated{})
		return listening.Status().Connected
	})
	root := api.Create(grantexhook.GrantCreated{})
	child := api.Create(grantexhook.GrantCreated{ParentGrantID: root.GrantID})
	require.NoError(t, listening.Sync(t.Context()))
	var open []context.Context
	for _, id := range []string{root.GrantID, child.GrantID} {
		ctx, cancel, err := deaf.Context(t.Context(), id)
		require.NoError(t, err)
		defer cancel()
		open = append(open, ctx)
	}

	api.Revoke(root.GrantID)
	for _, ctx := range open {
		select {
		case <-ctx.Done():
			require.ErrorIs(t, context.Cause(ctx), grants.ErrEnded)
		case <-time.After(patience):
			t.Fatal("the revocation wasn't passed on")
		}
	}
	require.ErrorIs(t, deaf.Check(t.Context(), root.GrantID), grants.ErrEnded)
	require.ErrorIs(t, deaf.Check(t.Context(), child.GrantID), grants.ErrEnded)
	require.EqualValues(t, 2, deaf.Status().Questions, "those before the Contexts")

	eventually(t, func() bool { return listening.Status().Untold+deaf.Status().Untold == 0 })
	require.NoError(t, rdb.Publish(t.Context(), channel, "the end").Err())
	want := []string{root.GrantID, child.GrantID, root.GrantID, child.GrantID}
	require.ElementsMatch(t, want, untilTheEnd(t, told), "once by each")
}

// runCache returns a Cache that runs until the test ends.
func runCache(t *testing.T, client *grantexapi.Client, rdb *redis.Client, channel string, opts grants.Options) *grants.Cache {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cache, err := passOn(ctx, client, rdb, channel, opts)
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- cache.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return cache
}

// untilTheEnd returns the grants that were passed on.
func untilTheEnd(t *testing.T, told *redis.PubSub) (grantIDs []string) {
	t.Helper()
	for {
		m, err := told.ReceiveMessage(t.Context())
		require.NoError(t, err)
		if m.Payload == "the end" {
			return grantIDs
		}
		grantIDs = append(grantIDs, strings.Fields(m.Payload)...)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 10*time.Millisecond)
}

// TestGrantsOverRedisAsDocumented checks that the documentation has the lines that
// TestGrantsOverRedis tries.
func TestGrantsOverRedisAsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../grants/doc.go")
	require.NoError(t, err)
	code, err := os.ReadFile("grants_redis_test.go")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(page), "//\topts.Ended = ")
	require.True(t, found)
	block, _, found = strings.Cut("//\topts.Ended = "+block, "\n//\n")
	require.True(t, found)
	require.Contains(t, block, "MarkEnded")
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "//"))
		if line != "..." {
			require.True(t, strings.Contains(string(code), "\t"+line+"\n"), "not tried: %s", line)
		}
	}
}
