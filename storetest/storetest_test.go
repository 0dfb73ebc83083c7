package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/storetest"
)

// TestRun runs in real time, like the suite of a Store with a database.
func TestRun(t *testing.T) {
	shared := new(grantexhook.MemoryStore)
	storetest.Run(t, func(*testing.T) grantexhook.Store { return shared })
}

func TestExampleStore(t *testing.T) {
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			require.Empty(t, failures(t, c, func() grantexhook.Store { return newStore() }))
		})
	}
}

func TestCases(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range storetest.Cases() {
		require.NotContains(t, names, c.Name)
		names[c.Name] = true
		require.NotContains(t, c.Name, " ")
		require.True(t, strings.HasSuffix(c.Rule, "."), c.Rule)
	}
	storetest.Cases()[0].Name = "changed"
	require.NotEqual(t, "changed", storetest.Cases()[0].Name)
}

// A fakeT records failures and doesn't fail.
type fakeT struct {
	testing.TB
	failures []string
}

func (f *fakeT) Helper() {}
func (f *fakeT) Fatalf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// failures runs a case in a bubble and returns the failures that it reports.
func failures(t *testing.T, c storetest.Case, newStore func() grantexhook.Store) (reported []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeT{TB: t}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Run(f, newStore())
		}()
		<-ended
		reported = f.failures
	})
	return reported
}

// A brokenStore is a MemoryStore with some methods replaced.
type brokenStore struct {
	right   grantexhook.MemoryStore
	claim   func(ctx context.Context, id string, lease time.Duration) (int64, bool, error)
	done    func(ctx context.Context, id string, keep time.Duration) error
	release func(ctx context.Context, id string, token int64) error

	mu      sync.Mutex
	asked   map[string]int       // number of calls of Claim
	tokens  map[string]int64     // the last claim's
	expires map[string]time.Time // the last claim's; zero if the id is done
}

func newBrokenStore(breakIt func(*brokenStore)) *brokenStore {
	s := &brokenStore{asked: map[string]int{}, tokens: map[string]int64{}, expires: map[string]time.Time{}}
	s.claim, s.done, s.release = s.right.Claim, s.right.Done, s.right.Release
	breakIt(s)
	return s
}

func (s *brokenStore) Claim(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	token, done, err := s.claim(ctx, id, lease)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[id]++
	if token != 0 {
		s.tokens[id], s.expires[id] = token, time.Now().Add(lease)
	}
	return token, done, err
}

func (s *brokenStore) Done(ctx context.Context, id string, keep time.Duration) error {
	err := s.done(ctx, id, keep)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires[id] = time.Time{}
	return err
}

func (s *brokenStore) Release(ctx context.Context, id string, token int64) error {
	return s.release(ctx, id, token)
}

// last returns the token and expiry of the last claim of id, and how often Claim was
// called for it.
func (s *brokenStore) last(id string) (token int64, expires time.Time, asked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[id], s.expires[id], s.asked[id]
}

// steal claims id even if it is held or done.
func (s *brokenStore) steal(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	s.right.Done(ctx, id, 0)
	return s.right.Claim(ctx, id, lease)
}

// renameIDs makes a Store confuse ids.
func renameIDs(rename func(string) string) func(*brokenStore) {
	return func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			return s.right.Claim(ctx, rename(id), lease)
		}
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			return s.right.Done(ctx, rename(id), keep)
		}
		s.release = func(ctx context.Context, id string, token int64) error {
			return s.right.Release(ctx, rename(id), token)
		}
	}
}

var brokenStores = []struct {
	name    string
	fails   string // the cases that must fail
	breakIt func(*brokenStore)
}{
	{"knows one id", "ids-are-independent ids-differ-by-bytes", renameIDs(func(string) string { return "" })},
	{"folds case", "ids-differ-by-bytes", renameIDs(strings.ToUpper)},
	{"ignores trailing spaces", "ids-differ-by-bytes", renameIDs(func(id string) string { return strings.TrimRight(id, " ") })},
	{"ignores leading spaces", "ids-differ-by-bytes", renameIDs(func(id string) string { return strings.TrimLeft(id, " ") })},
	{"ignores leading zeros", "ids-differ-by-bytes", renameIDs(func(id string) string { return strings.TrimLeft(id, "0") })},
	{"cuts long ids", "ids-differ-by-bytes", renameIDs(func(id string) string { return id[:min(len(id), 200)] })},
	{"unescapes ids", "ids-differ-by-bytes", renameIDs(func(id string) string { return strings.ReplaceAll(id, "''", "'") })},
	{"keeps only ASCII", "ids-differ-by-bytes", renameIDs(func(id string) string {
		return strings.Map(func(r rune) rune { return min(r, 0x80) }, id)
	})},
	{"uses ids as patterns", "ids-differ-by-bytes", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			for other := range s.asked {
				if prefix, ok := strings.CutSuffix(id, "%"); ok && strings.HasPrefix(other, prefix) {
					s.right.Done(ctx, other, keep)
				}
			}
			return s.right.Done(ctx, id, keep)
		}
	}},

	{"returns no tokens", "claim-of-free", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			_, done, err := s.right.Claim(ctx, id, lease)
			return 0, done, err
		}
	}},
	{"returns done with a token", "claim-of-free", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, err := s.right.Claim(ctx, id, lease)
			return token, done || token != 0, err
		}
	}},
	{"returns done for a held id", "claim-of-held lease-expires one-winner concurrency", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, _, err := s.right.Claim(ctx, id, lease)
			return token, token == 0, err
		}
	}},
	{"returns held for a done id", "done done-without-claim keep-expires", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, _, err := s.right.Claim(ctx, id, lease)
			return token, false, err
		}
	}},
	{"fails for a held id", "claim-of-held one-winner one-heir concurrency random-walk", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, err := s.right.Claim(ctx, id, lease)
			if token == 0 && !done {
				err = errors.New("duplicate key")
			}
			return token, done, err
		}
	}},
	{"always returns the same token", "tokens-differ release-too-late release-with-another-token", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, err := s.right.Claim(ctx, id, lease)
			return min(token, 1), done, err
		}
		s.release = func(ctx context.Context, id string, token int64) error {
			for t := range int64(100) {
				s.right.Release(ctx, id, t*token)
			}
			return nil
		}
	}},
	{"returns the expired claim's token", "tokens-differ", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			last, expires, _ := s.last(id)
			token, done, err := s.right.Claim(ctx, id, lease)
			if token != 0 && !expires.IsZero() && !time.Now().Before(expires) {
				token = last
			}
			return token, done, err
		}
	}},
	{"returns a token for a held id", "claim-of-held one-winner concurrency", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, err := s.right.Claim(ctx, id, lease)
			if token == 0 && !done {
				token = math.MaxInt64
			}
			return token, done, err
		}
	}},
	{"mistakes milliseconds for microseconds", "claim-lasts", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			return s.right.Claim(ctx, id, lease/1000)
		}
	}},
	{"never lets a lease expire", "lease-expires one-heir done-while-another-holds release-too-late", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, _ time.Duration) (int64, bool, error) {
			return s.right.Claim(ctx, id, math.MaxInt64)
		}
	}},
	{"checks the context too late", "cancelled-context", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, _ := s.right.Claim(context.WithoutCancel(ctx), id, lease)
			return token, done, ctx.Err()
		}
	}},
	{"returns held when the context has ended", "cancelled-context", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			if ctx.Err() != nil {
				return 0, false, nil
			}
			return s.right.Claim(ctx, id, lease)
		}
	}},

	{"forgets Done", "done", func(s *brokenStore) {
		s.done = func(context.Context, string, time.Duration) error { return nil }
	}},
	{"marks late", "done concurrency", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			time.AfterFunc(50*time.Millisecond, func() { s.right.Done(ctx, id, keep) })
			return nil
		}
	}},
	{"fails in Done", "done", func(s *brokenStore) {
		s.done = func(context.Context, string, time.Duration) error { return errors.New("failed") }
	}},
	{"marks only claimed ids", "done-without-claim", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			if token, _, _ := s.last(id); token == 0 {
				return errors.New("no claim")
			}
			return s.right.Done(ctx, id, keep)
		}
	}},
	{"marks only for the first holder", "done-while-another-holds", func(s *brokenStore) {
		first := make(map[string]int64)
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			token, done, err := s.right.Claim(ctx, id, lease)
			if first[id] == 0 {
				first[id] = token
			}
			return token, done, err
		}
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			if token, _, _ := s.last(id); token != first[id] {
				return nil
			}
			return s.right.Done(ctx, id, keep)
		}
	}},
	{"marks only before the lease expires", "done-after-expiry", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			if _, expires, _ := s.last(id); time.Now().After(expires) {
				return nil
			}
			return s.right.Done(ctx, id, keep)
		}
	}},
	{"fails at a second Done", "done-twice", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			if _, done, _ := s.right.Claim(ctx, id, time.Nanosecond); done {
				return errors.New("already done")
			}
			return s.right.Done(ctx, id, keep)
		}
	}},
	{"keeps the first Done", "done-twice", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			if _, done, _ := s.right.Claim(ctx, id, time.Nanosecond); done {
				return nil
			}
			return s.right.Done(ctx, id, keep)
		}
	}},
	{"keeps marks too shortly", "done-lasts", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			return s.right.Done(ctx, id, keep/1000)
		}
	}},
	{"removes marks when the lease ends", "done-lasts", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			_, expires, _ := s.last(id)
			return s.right.Done(ctx, id, min(keep, max(0, time.Until(expires))))
		}
	}},
	{"keeps marks until the lease ends", "keep-expires", func(s *brokenStore) {
		s.done = func(ctx context.Context, id string, keep time.Duration) error {
			_, expires, _ := s.last(id)
			return s.right.Done(ctx, id, max(keep, time.Until(expires)))
		}
	}},

	{"doesn't release", "release concurrency random-walk", func(s *brokenStore) {
		s.release = func(context.Context, string, int64) error { return nil }
	}},
	{"releases with any token", "release-with-another-token release-with-token-0 release-too-late random-walk", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, _ int64) error {
			token, _, _ := s.last(id)
			return s.right.Release(ctx, id, token)
		}
	}},
	{"releases every id", "ids-are-independent", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			for other := range s.asked {
				last, _, _ := s.last(other)
				s.right.Release(ctx, other, last)
			}
			return nil
		}
	}},
	{"releases with an earlier token", "release-with-another-token release-too-late random-walk", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			if last, _, _ := s.last(id); token > 0 && token < last {
				token = last
			}
			return s.right.Release(ctx, id, token)
		}
	}},
	{"ignores the token's sign", "release-with-another-token", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			return s.right.Release(ctx, id, max(token, -token))
		}
	}},
	{"treats token 0 as every token", "release-with-token-0 random-walk", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			if token == 0 {
				token, _, _ = s.last(id)
			}
			return s.right.Release(ctx, id, token)
		}
	}},
	{"treats token 0 as a mark's token", "release-with-token-0 random-walk", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			if _, expires, asked := s.last(id); token == 0 && asked > 0 && expires.IsZero() {
				return s.right.Done(ctx, id, 0)
			}
			return s.right.Release(ctx, id, token)
		}
	}},
	{"releases done ids", "release-of-done random-walk", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			if last, _, _ := s.last(id); token == last {
				return s.right.Done(ctx, id, 0)
			}
			return s.right.Release(ctx, id, token)
		}
	}},
	{"fails to release an unknown id", "release-of-unknown", func(s *brokenStore) {
		s.release = func(ctx context.Context, id string, token int64) error {
			if last, _, _ := s.last(id); last == 0 {
				return errors.New("no such id")
			}
			return s.right.Release(ctx, id, token)
		}
	}},

	{"checks and then claims", "one-winner", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			_, _, asked := s.last(id)
			if time.Sleep(time.Microsecond); asked == 0 {
				return s.steal(ctx, id, lease)
			}
			return s.right.Claim(ctx, id, lease)
		}
	}},
	{"checks for an expired lease and then claims", "one-heir", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			_, expires, _ := s.last(id)
			expired := !expires.IsZero() && time.Now().After(expires)
			if time.Sleep(time.Microsecond); expired {
				return s.steal(ctx, id, lease)
			}
			return s.right.Claim(ctx, id, lease)
		}
	}},
	{"lets the seventh Claim steal", "concurrency", func(s *brokenStore) {
		s.claim = func(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
			if _, _, asked := s.last(id); asked%7 == 6 {
				return s.steal(ctx, id, lease)
			}
			return s.right.Claim(ctx, id, lease)
		}
	}},
}

func TestBrokenStoresFail(t *testing.T) {
	cases := make(map[string]storetest.Case)
	untested := make(map[string]bool)
	for _, c := range storetest.Cases() {
		cases[c.Name], untested[c.Name] = c, true
	}
	for _, b := range brokenStores {
		t.Run(b.name, func(t *testing.T) {
			newStore := func() grantexhook.Store { return newBrokenStore(b.breakIt) }
			for name := range strings.FieldsSeq(b.fails) {
				c := cases[name]
				reported := failures(t, c, newStore)
				require.Len(t, reported, 1, name)
				require.True(t, strings.HasPrefix(reported[0], c.Rule+"\n\t"), reported[0])
				require.Regexp(t, `\n\tTo fix it: [A-Z].+\.$`, reported[0])
				delete(untested, name)
			}
		})
	}
	require.Empty(t, untested, "cases that no broken store fails")
}

// TestUnbrokenStorePasses checks that wrapping alone doesn't break a Store.
func TestUnbrokenStorePasses(t *testing.T) {
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			require.Empty(t, failures(t, c, func() grantexhook.Store { return newBrokenStore(func(*brokenStore) {}) }))
		})
	}
}
