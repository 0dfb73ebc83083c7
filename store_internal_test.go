package grantexhook

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// remembered is the number of entries, which the queues have to agree with.
func remembered(t *testing.T, s *MemoryStore) int {
	t.Helper()
	n := 0
	for _, q := range []*queue{&s.claimed, &s.done} {
		var prev *entry
		for e := q.first; e != nil; prev, e = e, e.next {
			require.Same(t, q, e.queue)
			require.True(t, e.prev == prev)
			require.Same(t, e, s.entries[e.id])
			n++
		}
		require.True(t, q.last == prev)
	}
	require.Len(t, s.entries, n)
	return n
}

func TestMemoryStoreForgets(t *testing.T) {
	const n = 100
	done := func(s *MemoryStore, id string, _ int64) { s.Done(t.Context(), id, time.Hour) }
	release := func(s *MemoryStore, id string, token int64) { s.Release(t.Context(), id, token) }
	tests := []struct {
		name   string
		settle func(s *MemoryStore, id string, token int64)
		left   int // as soon as all are settled
	}{
		{"done", done, n},
		{"done, again and again", func(s *MemoryStore, id string, token int64) { done(s, id, token); done(s, id, token) }, n},
		{"released", release, 0},
		{"never settled", func(*MemoryStore, string, int64) {}, n},
		{"done, and released too late", func(s *MemoryStore, id string, token int64) { done(s, id, token); release(s, id, token) }, n},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s MemoryStore
				claim := func(id string) int64 {
					token, _, err := s.Claim(t.Context(), id, time.Minute)
					require.NoError(t, err)
					return token
				}
				for i := range n {
					id := fmt.Sprint(i)
					test.settle(&s, id, claim(id))
				}
				require.Equal(t, test.left, remembered(t, &s))

				time.Sleep(time.Hour)
				for i := range n / 2 {
					id := fmt.Sprint("later ", i)
					test.settle(&s, id, claim(id))
				}
				require.Equal(t, test.left/2, remembered(t, &s), "each claim forgets two and adds one")

				time.Sleep(time.Hour)
				for range n {
					claim("the same")
				}
				require.Equal(t, 1, remembered(t, &s))
			})
		})
	}
}

// What is kept for long does not keep what has expired from being forgotten.
func TestMemoryStoreForgetsBehindWhatItKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s MemoryStore
		for i := range 10 {
			require.NoError(t, s.Done(t.Context(), fmt.Sprint("done ", i), time.Hour))
			s.Claim(t.Context(), fmt.Sprint("claimed ", i), time.Minute)
		}
		require.Equal(t, 20, remembered(t, &s))
		time.Sleep(time.Minute)
		for range 5 {
			s.Claim(t.Context(), "the same", time.Minute)
		}
		require.Equal(t, 11, remembered(t, &s))
	})
}

// An entry may leave its queue from the front, the middle and the end, and may
// change it.
func TestMemoryStoreKeepsItsQueues(t *testing.T) {
	var s MemoryStore
	tokens := make(map[string]int64)
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		token, _, err := s.Claim(t.Context(), id, time.Minute)
		require.NoError(t, err)
		tokens[id] = token
	}
	for i, step := range []func(){
		func() { s.Release(t.Context(), "c", tokens["c"]) },
		func() { s.Release(t.Context(), "a", tokens["a"]) },
		func() { s.Release(t.Context(), "f", tokens["f"]) },
		func() { s.Done(t.Context(), "d", time.Minute) },
		func() { s.Done(t.Context(), "b", time.Minute) },
		func() { s.Done(t.Context(), "d", time.Minute) },
		func() { s.Release(t.Context(), "e", tokens["e"]) },
	} {
		step()
		require.Equal(t, []int{5, 4, 3, 3, 3, 3, 2}[i], remembered(t, &s))
	}
}

// An event whose handler died is handled by a later attempt, though the claim
// that nobody settled is no longer the last of its queue.
func TestMemoryStoreClaimsAgainWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s MemoryStore
		for range 3 {
			for _, id := range []string{"a", "b", "c", "d"} {
				token, done, err := s.Claim(t.Context(), id, time.Minute)
				require.NoError(t, err)
				require.NotZero(t, token)
				require.False(t, done)
			}
			require.Equal(t, 4, remembered(t, &s))
			time.Sleep(time.Minute)
		}
	})
}
