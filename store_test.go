package grantexhook_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/storetest"
)

func TestMemoryStore(t *testing.T) {
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.Run(t, new(grantexhook.MemoryStore)) })
		})
	}
}

func TestMemoryStoreZeroValue(t *testing.T) {
	tests := []struct {
		name string
		call func(*grantexhook.MemoryStore) error
	}{
		{"Claim", func(s *grantexhook.MemoryStore) error {
			_, _, err := s.Claim(t.Context(), "id", time.Minute)
			return err
		}},
		{"Done", func(s *grantexhook.MemoryStore) error { return s.Done(t.Context(), "id", time.Minute) }},
		{"Release", func(s *grantexhook.MemoryStore) error { return s.Release(t.Context(), "id", 1) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s grantexhook.MemoryStore
			require.NoError(t, test.call(&s))
		})
	}
}

// A lease and a time to keep end on time, not a nanosecond earlier.
func TestMemoryStoreExpiresOnTime(t *testing.T) {
	tests := []struct {
		name    string
		done    bool // with an hour to keep it
		wait    time.Duration
		claimed bool // once more
	}{
		{"just before the lease ends", false, time.Second - 1, false},
		{"when the lease ends", false, time.Second, true},
		{"just before the time to keep ends", true, time.Hour - 1, false},
		{"when the time to keep ends", true, time.Hour, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s grantexhook.MemoryStore
				for _, id := range []string{"a", "b", "c", "id"} { // the last will not be forgotten by the next claim
					_, _, err := s.Claim(t.Context(), id, time.Second)
					require.NoError(t, err)
					if test.done {
						require.NoError(t, s.Done(t.Context(), id, time.Hour))
					}
				}
				time.Sleep(test.wait)
				token, done, err := s.Claim(t.Context(), "id", time.Second)
				require.NoError(t, err)
				require.Equal(t, test.claimed, token != 0)
				require.Equal(t, test.done && !test.claimed, done)
			})
		})
	}
}

// Concurrent claims with leases of different lengths don't claim an id twice.
func TestMemoryStoreConcurrency(t *testing.T) {
	const workers, ids = 8, 500
	var s grantexhook.MemoryStore
	var claims [ids]atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range claims {
				id := fmt.Sprint(i)
				token, _, err := s.Claim(t.Context(), id, time.Minute+time.Duration(i))
				switch {
				case err != nil:
					t.Error(err)
				case token == 0:
				case claims[i].Add(1) == 1 && i%2 == 0:
					s.Release(t.Context(), id, token)
				default:
					s.Done(t.Context(), id, time.Minute)
				}
			}
		})
	}
	wg.Wait()
	for i := range claims {
		n := claims[i].Load()
		require.True(t, n == 1 || n == 2 && i%2 == 0, "%d claims of %d", n, i)
	}
}
