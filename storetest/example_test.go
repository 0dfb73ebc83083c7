package storetest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/storetest"
)

// A store keeps ids in a map. Unlike a Store for production, it never removes expired
// entries.
type store struct {
	mu      sync.Mutex
	entries map[string]entry
	last    int64 // token
}

type entry struct {
	token   int64 // 0 if the id is done
	expires time.Time
}

func newStore() *store { return &store{entries: make(map[string]entry)} }

func (s *store) Claim(_ context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; time.Now().Before(e.expires) {
		return 0, e.token == 0, nil
	}
	s.last++
	s.entries[id] = entry{s.last, time.Now().Add(lease)}
	return s.last, false, nil
}

func (s *store) Done(_ context.Context, id string, keep time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[id] = entry{0, time.Now().Add(keep)}
	return nil
}

func (s *store) Release(_ context.Context, id string, token int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != 0 && s.entries[id].token == token {
		delete(s.entries, id)
	}
	return nil
}

func ExampleRun() {
	var t *testing.T // of your func TestStore(t *testing.T)

	storetest.Run(t, func(*testing.T) grantexhook.Store { return newStore() })
}
