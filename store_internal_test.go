package grantexhook

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

// remembered returns the number of entries, and checks that each is in its queue
// once, since an entry that isn't would never be forgotten.
func remembered(t *testing.T, s *MemoryStore) int {
	t.Helper()
	for id, e := range s.entries {
		require.Equal(t, id, e.id)
		queue := s.claimed
		if e.token == 0 {
			queue = s.done
		}
		n := 0
		for _, queued := range queue {
			if queued == e {
				n++
			}
		}
		require.Equal(t, 1, n, "how often %s is in its queue", id)
	}
	return len(s.entries)
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
				require.Equal(t, 1, len(s.claimed)+len(s.done))
			})
		})
	}
}

// A claim that was settled leaves its queue before its lease expires.
func TestMemoryStoreForgetsSettledClaims(t *testing.T) {
	var s MemoryStore
	for i := range 100 {
		id := fmt.Sprint(i)
		token, _, err := s.Claim(t.Context(), id, time.Minute)
		require.NoError(t, err)
		if i%2 == 0 {
			s.Done(t.Context(), id, time.Hour)
		} else {
			s.Release(t.Context(), id, token)
		}
	}
	require.Len(t, s.claimed, 1)
	require.Equal(t, 50, remembered(t, &s))
}

// A forgotten entry doesn't stay in the array of its queue.
func TestMemoryStoreFreesWhatItForgets(t *testing.T) {
	var s MemoryStore
	for _, id := range []string{"a", "b", "c", "d"} {
		s.Claim(t.Context(), id, time.Hour)
	}
	forgotten := weak.Make(s.entries["a"])
	s.Release(t.Context(), "a", s.entries["a"].token)
	s.Claim(t.Context(), "b", time.Hour) // sweeps, but doesn't add an entry
	require.Len(t, s.claimed, 3)
	runtime.GC()
	require.Nil(t, forgotten.Value())
	runtime.KeepAlive(&s)
}

// Entries that are kept for long don't keep expired ones from being forgotten.
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

// A claim that was never settled expires, wherever it is in its queue.
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
