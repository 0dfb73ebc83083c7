package redisstore_test

import (
	"context"
	"crypto/rand"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/redisstore"
)

func TestClaim(t *testing.T) {
	s, client, prefix := open(t)
	token := want(t, s, "a", free)
	require.Positive(t, token)
	require.Equal(t, strconv.FormatInt(token, 10), client.Get(t.Context(), prefix+"a").Val())
	want(t, s, "a", held)
	want(t, s, "a", held)
	want(t, s, "b", free)
}

func TestTokensDiffer(t *testing.T) {
	s, _, _ := open(t)
	seen := make(map[int64]bool)
	for range 20 {
		token := want(t, s, "id", free)
		require.False(t, seen[token])
		seen[token] = true
		require.NoError(t, s.Release(t.Context(), "id", token))
	}
}

// TestExpiry checks that leases and times to keep are at most a millisecond too long,
// never too short and never endless.
func TestExpiry(t *testing.T) {
	tests := []struct {
		name   string
		time   time.Duration
		passes bool // during the test
	}{
		{"negative", -time.Hour, true},
		{"the minimum", math.MinInt64, true},
		{"zero", 0, true},
		{"a nanosecond", 1, true},
		{"a millisecond", time.Millisecond, true},
		{"30 milliseconds", 30 * time.Millisecond, true},
		{"a minute", time.Minute, false},
		{"a minute and a half of a millisecond", time.Minute + 500*time.Microsecond, false},
		{"a day", 24 * time.Hour, false},
		{"the maximum", math.MaxInt64, false},
	}
	s, client, prefix := open(t)
	for _, test := range tests {
		for _, state := range []string{held, done} {
			t.Run(test.name+", "+state, func(t *testing.T) {
				id := rand.Text()
				if state == held {
					_, found := try(t, s, id, test.time)
					require.Equal(t, free, found)
				} else {
					require.NoError(t, s.Done(t.Context(), id, test.time))
				}
				left, err := client.PTTL(t.Context(), prefix+id).Result()
				require.NoError(t, err)
				if test.passes {
					require.True(t, left == -2 || left <= max(test.time, time.Millisecond), left) // -2: the key is gone
					require.NotEqual(t, time.Duration(-1), left, "the key never expires")
					wantExpiry(t, s, id, state)
					want(t, s, id, held)
					return
				}
				require.Greater(t, left, test.time-10*time.Second)
				require.LessOrEqual(t, left-time.Millisecond, test.time)
			})
		}
	}
}

func TestDone(t *testing.T) {
	tests := []struct {
		name   string
		before func(t *testing.T, s *redisstore.Store)
	}{
		{"free", func(*testing.T, *redisstore.Store) {}},
		{"claimed", func(t *testing.T, s *redisstore.Store) { want(t, s, "id", free) }},
		{"released", func(t *testing.T, s *redisstore.Store) {
			require.NoError(t, s.Release(t.Context(), "id", want(t, s, "id", free)))
		}},
		{"held by another claim", func(t *testing.T, s *redisstore.Store) {
			try(t, s, "id", time.Millisecond)
			wantExpiry(t, s, "id", held)
		}},
		{"done for a shorter time", func(t *testing.T, s *redisstore.Store) {
			require.NoError(t, s.Done(t.Context(), "id", time.Minute))
		}},
		{"done for a longer time", func(t *testing.T, s *redisstore.Store) {
			require.NoError(t, s.Done(t.Context(), "id", 48*time.Hour))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, client, prefix := open(t)
			test.before(t, s)
			require.NoError(t, s.Done(t.Context(), "id", time.Hour))
			want(t, s, "id", done)
			want(t, s, "id", done)
			left := client.PTTL(t.Context(), prefix+"id").Val()
			require.InDelta(t, time.Hour, left, float64(10*time.Second))
		})
	}
}

func TestRelease(t *testing.T) {
	tests := []struct {
		name  string
		other func(token int64) int64
		found string
	}{
		{"own token", func(token int64) int64 { return token }, free},
		{"one more", func(token int64) int64 { return token + 1 }, held},
		{"one less", func(token int64) int64 { return token - 1 }, held},
		{"negative", func(token int64) int64 { return -token }, held},
		{"another with the same float64", func(token int64) int64 { return token ^ 1 }, held},
		{"0", func(int64) int64 { return 0 }, held},
	}
	s, _, _ := open(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id := rand.Text()
			token := want(t, s, id, free)
			require.NoError(t, s.Release(t.Context(), id, test.other(token)))
			want(t, s, id, test.found)
		})
	}
}

func TestReleaseOfUnknown(t *testing.T) {
	s, _, _ := open(t)
	require.NoError(t, s.Release(t.Context(), "id", 1))
	want(t, s, "id", free)
}

func TestReleaseOfDone(t *testing.T) {
	s, _, _ := open(t)
	token := want(t, s, "id", free)
	require.NoError(t, s.Done(t.Context(), "id", time.Minute))
	for _, token := range []int64{token, 0, 1, -1} {
		require.NoError(t, s.Release(t.Context(), "id", token))
		want(t, s, "id", done)
	}
}

func TestReleaseTooLate(t *testing.T) {
	s, _, _ := open(t)
	first, _ := try(t, s, "id", time.Millisecond)
	second := wantExpiry(t, s, "id", held)
	require.NoError(t, s.Release(t.Context(), "id", first))
	want(t, s, "id", held)
	require.NoError(t, s.Release(t.Context(), "id", second))
	want(t, s, "id", free)
}

// TestOneWinner checks that one of many concurrent callers gets an id that is free or
// whose lease expires.
func TestOneWinner(t *testing.T) {
	tests := []struct {
		name   string
		before time.Duration // lease of an earlier claim; 0: no claim
	}{
		{"free", 0},
		{"lease that expires", 30 * time.Millisecond},
	}
	s, _, _ := open(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id := rand.Text()
			if test.before > 0 {
				try(t, s, id, test.before)
			}
			require.EqualValues(t, 1, winners(t, s, id))
		})
	}
}

// winners lets 16 goroutines claim id until one of them gets it, and then once more. It
// returns how many got it.
func winners(t *testing.T, s *redisstore.Store, id string) int32 {
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			end := time.Now().Add(10 * time.Second)
			for over := false; !over; time.Sleep(time.Millisecond) {
				over = wins.Load() > 0 || time.Now().After(end)
				token, _, err := s.Claim(t.Context(), id, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if token != 0 {
					wins.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return wins.Load()
}

// TestOneCommand checks that each call is one command with one key, as a cluster needs.
func TestOneCommand(t *testing.T) {
	tests := []struct {
		name  string
		call  func(ctx context.Context, s *redisstore.Store, id string) error
		sends string
	}{
		{"Claim", calls[0].call, "set"},
		{"Done", calls[1].call, "set"},
		{"Release", calls[2].call, "eval"},
		{"Release with token 0", func(ctx context.Context, s *redisstore.Store, id string) error { return s.Release(ctx, id, 0) }, ""},
	}
	for _, test := range tests {
		for _, id := range []string{"evt_1", "evt_{a}{b}", "}{", ""} {
			t.Run(test.name+" "+id, func(t *testing.T) {
				s, client, prefix := open(t)
				require.NoError(t, client.Ping(t.Context()).Err()) // so that the handshake isn't recorded
				var r recorder
				client.AddHook(&r)
				require.NoError(t, test.call(t.Context(), s, id))
				if test.sends == "" {
					require.Empty(t, r.commands)
					return
				}
				require.Len(t, r.commands, 1)
				command := r.commands[0]
				require.Equal(t, test.sends, command[0])
				keys := slices.DeleteFunc(command, func(arg any) bool {
					text, ok := arg.(string)
					return !ok || !strings.HasPrefix(text, prefix)
				})
				require.Equal(t, []any{prefix + id}, keys)
			})
		}
	}
}

func TestPrefix(t *testing.T) {
	_, client, prefix := open(t)
	a, b := newStore(t, client, prefix+"a:"), newStore(t, client, prefix+"b:")
	token := want(t, a, "id", free)
	require.NoError(t, b.Release(t.Context(), "id", token))
	require.NoError(t, b.Done(t.Context(), "id", time.Minute))
	want(t, a, "id", held)
	want(t, b, "id", done)
}

func TestDefaultPrefix(t *testing.T) {
	tests := []struct {
		name string
		opts *redisstore.Options
	}{
		{"nil", nil},
		{"zero", &redisstore.Options{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := dial(t, options(t))
			s, err := redisstore.New(client, test.opts)
			require.NoError(t, err)
			id := rand.Text()
			token := want(t, s, id, free)
			require.EqualValues(t, 1, client.Exists(t.Context(), "grantexhook:"+id).Val())
			require.NoError(t, s.Release(t.Context(), id, token))
		})
	}
}

// TestForeignValue checks that Claim fails if the value is neither a claim nor a mark. The
// error must not quote it.
func TestForeignValue(t *testing.T) {
	const value = "hunter2"
	tests := []struct {
		name  string
		write func(ctx context.Context, client *redis.Client, key string) error
		fails bool
	}{
		{"text", func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, value, 0).Err() }, true},
		{"empty", func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, "", 0).Err() }, true},
		{"list", func(ctx context.Context, c *redis.Client, key string) error { return c.LPush(ctx, key, value).Err() }, true},
		{"mark in capitals", func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, "DONE", 0).Err() }, true},
		{"number that is too large", func(ctx context.Context, c *redis.Client, key string) error {
			return c.Set(ctx, key, "9223372036854775808", 0).Err()
		}, true},
		{"number", func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, "1", 0).Err() }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, client, prefix := open(t)
			require.NoError(t, test.write(t.Context(), client, prefix+"id"))
			token, isDone, err := s.Claim(t.Context(), "id", time.Minute)
			require.Zero(t, token)
			require.False(t, isDone)
			if !test.fails {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "redisstore: claim: ")
			for _, value := range []string{value, `""`, "DONE", "9223372036854775808"} {
				require.NotContains(t, err.Error(), value)
			}
		})
	}
}

// TestLostClaim checks that a Claim succeeds if its first response gets lost. The client
// retries the command and finds its own claim.
func TestLostClaim(t *testing.T) {
	direct, server, prefix := open(t)
	var p proxy
	client := dial(t, p.listen(t, options(t)))
	require.NoError(t, client.Ping(t.Context()).Err())
	p.lose.Store(true)
	token := want(t, newStore(t, client, prefix), "id", free)
	require.False(t, p.lose.Load(), "no response was lost")
	require.Equal(t, strconv.FormatInt(token, 10), server.Get(t.Context(), prefix+"id").Val())
	want(t, direct, "id", held)
	require.NoError(t, direct.Release(t.Context(), "id", token))
	want(t, direct, "id", free)
}

// TestLostResponse checks that a retried Done or Release has the same result.
func TestLostResponse(t *testing.T) {
	tests := []struct {
		name  string
		call  func(t *testing.T, s *redisstore.Store, token int64)
		found string
	}{
		{"Done", func(t *testing.T, s *redisstore.Store, _ int64) {
			require.NoError(t, s.Done(t.Context(), "id", time.Minute))
		}, done},
		{"Release", func(t *testing.T, s *redisstore.Store, token int64) {
			require.NoError(t, s.Release(t.Context(), "id", token))
		}, free},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			direct, _, prefix := open(t)
			token := want(t, direct, "id", free)
			var p proxy
			client := dial(t, p.listen(t, options(t)))
			require.NoError(t, client.Ping(t.Context()).Err()) // so that the handshake's response isn't lost
			p.lose.Store(true)
			test.call(t, newStore(t, client, prefix), token)
			require.False(t, p.lose.Load(), "no response was lost")
			want(t, direct, "id", test.found)
		})
	}
}

// TestLostClaimForGood checks that a Claim fails if its response gets lost and the client
// doesn't retry. The id is free when the lease expires.
func TestLostClaimForGood(t *testing.T) {
	direct, _, prefix := open(t)
	var p proxy
	opts := p.listen(t, options(t))
	opts.MaxRetries = -1
	client := dial(t, opts)
	require.NoError(t, client.Ping(t.Context()).Err())
	p.lose.Store(true)
	_, _, err := newStore(t, client, prefix).Claim(t.Context(), "id", 50*time.Millisecond)
	require.Error(t, err)
	wantExpiry(t, direct, "id", held)
}

// TestEndedContext checks that calls return the context's error and change no entry.
func TestEndedContext(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	tests := []struct {
		name string
		ctx  context.Context
		want error
	}{
		{"cancelled", cancelled, context.Canceled},
		{"late", late, context.DeadlineExceeded},
	}
	s, _, _ := open(t)
	for _, test := range tests {
		for _, c := range calls {
			t.Run(test.name+" "+c.name, func(t *testing.T) {
				id := rand.Text()
				err := c.call(test.ctx, s, id)
				require.ErrorIs(t, err, test.want)
				require.ErrorContains(t, err, "redisstore: "+c.name+": ")
				want(t, s, id, free)
			})
		}
	}
}

func TestWrongPassword(t *testing.T) {
	opts := *options(t)
	opts.Username, opts.Password = "grantexhook-test-nobody", "hunter2"
	s := newStore(t, dial(t, &opts), "unused:")
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			err := c.call(t.Context(), s, "id")
			require.ErrorContains(t, err, "redisstore: "+c.name+": ")
			require.NotContains(t, err.Error(), opts.Password)
		})
	}
}
