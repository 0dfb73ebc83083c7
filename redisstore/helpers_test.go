package redisstore_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/redisstore"
)

// address is the environment variable with the URL of the Redis to test with. Its name
// can't be confused with a variable for production.
const address = "GRANTEXHOOK_TEST_REDIS"

// options returns the options of the Redis to test with. Without a Redis it skips the
// test, or fails it in CI.
func options(t testing.TB) *redis.Options {
	t.Helper()
	opts, err := redis.ParseURL(cmp.Or(os.Getenv(address), "redis://127.0.0.1:6379/0"))
	if err != nil {
		t.Fatal(address + " isn't a redis:// URL") // the error would quote it
	}
	opts.ContextTimeoutEnabled = true
	if err := ping(*opts); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no Redis responds at %s: %v", opts.Addr, err)
		}
		t.Skipf("no Redis responds at %s (%v); start one with \"redis-server --port 6379\", or set %s to redis://host:port/0", opts.Addr, err, address)
	}
	return opts
}

var pinged struct {
	sync.Once
	err error
}

// ping pings only once, since a missing Redis takes a while to fail.
func ping(opts redis.Options) error {
	pinged.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		client := redis.NewClient(&opts)
		defer client.Close()
		pinged.err = client.Ping(ctx).Err()
	})
	return pinged.err
}

func dial(t testing.TB, opts *redis.Options) *redis.Client {
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

func newStore(t testing.TB, client redis.UniversalClient, prefix string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(client, &redisstore.Options{Prefix: prefix})
	require.NoError(t, err)
	return s
}

// freshPrefix returns a prefix that no other test has. Its keys are removed at the end.
func freshPrefix(t testing.TB, client *redis.Client) string {
	prefix := "grantexhook-test:" + rand.Text() + ":"
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(t, client.Del(ctx, keys.Val()).Err())
		}
		require.NoError(t, keys.Err())
	})
	return prefix
}

// open returns a Store on the Redis to test with, and its client and prefix.
func open(t testing.TB) (s *redisstore.Store, client *redis.Client, prefix string) {
	t.Helper()
	client = dial(t, options(t))
	prefix = freshPrefix(t, client)
	return newStore(t, client, prefix), client, prefix
}

// The states in which a Claim can find an id.
const (
	free = "free" // and now claimed
	held = "held"
	done = "done"
)

func try(t testing.TB, s *redisstore.Store, id string, lease time.Duration) (token int64, found string) {
	t.Helper()
	token, isDone, err := s.Claim(t.Context(), id, lease)
	require.NoError(t, err)
	require.False(t, token != 0 && isDone, "both a token and done")
	switch {
	case token != 0:
		return token, free
	case isDone:
		return 0, done
	}
	return 0, held
}

// want claims id for a minute and checks the state that it finds.
func want(t testing.TB, s *redisstore.Store, id, found string) (token int64) {
	t.Helper()
	token, was := try(t, s, id, time.Minute)
	require.Equal(t, found, was)
	return token
}

// wantExpiry claims id for a minute as soon as it is free. Until then id must be in the
// state before.
func wantExpiry(t testing.TB, s *redisstore.Store, id, before string) (token int64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		token, found := try(t, s, id, time.Minute)
		if found == free {
			return token
		}
		require.Equal(t, before, found)
	}
	require.Fail(t, "the id doesn't become free")
	return 0
}

// calls are the methods of a Store. Their names begin their errors.
var calls = []struct {
	name string
	call func(context.Context, *redisstore.Store, string) error
}{
	{"claim", func(ctx context.Context, s *redisstore.Store, id string) error {
		_, _, err := s.Claim(ctx, id, time.Minute)
		return err
	}},
	{"done", func(ctx context.Context, s *redisstore.Store, id string) error { return s.Done(ctx, id, time.Minute) }},
	{"release", func(ctx context.Context, s *redisstore.Store, id string) error { return s.Release(ctx, id, 1) }},
}

// A proxy is between a client and the Redis to test with.
type proxy struct {
	lose atomic.Bool // drop the next response and its connection
	mute atomic.Bool // hold back all responses
}

// listenLoopback listens on a free port of 127.0.0.1, or of ::1 on a machine without
// IPv4.
func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l, err = net.Listen("tcp", "[::1]:0")
	}
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// listen starts p and returns the options for its clients.
func (p *proxy) listen(t *testing.T, to *redis.Options) *redis.Options {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	l := listenLoopback(t)
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.carry(client, to) })
		}
	})
	opts := *to
	opts.Network, opts.Addr = "tcp", l.Addr().String()
	return &opts
}

func (p *proxy) carry(client net.Conn, to *redis.Options) {
	defer client.Close()
	server, err := net.Dial(to.Network, to.Addr)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	response := make([]byte, 4096)
	for {
		n, err := server.Read(response)
		if err != nil || p.lose.CompareAndSwap(true, false) {
			return
		}
		if !p.mute.Load() {
			client.Write(response[:n])
		}
	}
}

// A recorder is a client's hook that records its commands.
type recorder struct{ commands [][]any }

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.commands = append(r.commands, slices.Clone(cmd.Args()))
		return next(ctx, cmd)
	}
}
