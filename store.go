package grantexhook

import (
	"context"
	"sync"
	"time"
)

// A Store remembers which events are being handled and which were handled, so each
// is handled once. A Store belongs to one service: a second service sharing it
// would find events it never saw marked done.
//
// An id is free, claimed or done. All methods may be called concurrently, by several
// processes if they share the Store. A method returns an error if it couldn't read
// or write the state. Package storetest tests implementations.
type Store interface {
	// Claim claims id until lease has passed, if id is free or an earlier claim has
	// expired. It returns a token that isn't zero and that no other claim of id has
	// had. Token 0 without an error means that id is done, if done is true, or else
	// that it is claimed.
	//
	// If ctx has ended, Claim may return an error without claiming id. If ctx ends
	// or the connection breaks during the call, id may be claimed despite the error,
	// and stay so until the lease expires.
	Claim(ctx context.Context, id string, lease time.Duration) (token int64, done bool, err error)

	// Done marks id as done until keep has passed; then id is free. It does so even
	// if another claim holds id now, because the event was handled.
	Done(ctx context.Context, id string, keep time.Duration) error

	// Release frees id if it is claimed with this token. Otherwise it changes
	// nothing: an id that is done stays done, and a later claim stays valid.
	Release(ctx context.Context, id string, token int64) error
}

// A MemoryStore is a [Store] in the memory of one process. It suits a service that
// runs as one process, and forgets everything on a restart. The zero value is ready
// to use. It is safe for concurrent use and must not be copied.
//
// It needs about 150 bytes for each event that it remembers; a [Dispatcher] keeps
// events for a day. There is no background goroutine: each Claim forgets up to two
// expired claims and two expired events, in constant time.
type MemoryStore struct {
	mu            sync.Mutex
	entries       map[string]*entry
	claimed, done []*entry // queues in the order of expiry, as long as all leases and all times to keep are the same
	last          int64    // the last token
}

type entry struct {
	id      string
	token   int64 // 0 if done
	expires time.Time
}

// Claim implements [Store]. It never fails.
func (s *MemoryStore) Claim(_ context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = s.sweep(s.claimed, false, now)
	s.done = s.sweep(s.done, true, now)
	if e := s.entries[id]; e != nil && now.Before(e.expires) {
		return 0, e.token == 0, nil
	}
	e := s.add(id)
	e.expires = now.Add(lease)
	s.claimed = append(s.claimed, e)
	return e.token, false, nil
}

// Done implements [Store]. It never fails.
func (s *MemoryStore) Done(_ context.Context, id string, keep time.Duration) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		e = s.add(id)
	}
	if e.token != 0 {
		s.done = append(s.done, e)
	}
	e.token, e.expires = 0, now.Add(keep)
	return nil
}

// Release implements [Store]. It never fails.
func (s *MemoryStore) Release(_ context.Context, id string, token int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil && e.token == token && token != 0 {
		e.expires = time.Time{}
		delete(s.entries, id)
	}
	return nil
}

// add replaces the entry of id with one that has a new token.
func (s *MemoryStore) add(id string) *entry {
	if s.entries == nil {
		s.entries = make(map[string]*entry)
	}
	s.last++
	e := &entry{id: id, token: s.last}
	s.entries[id] = e
	return e
}

// sweep returns the queue without up to two entries at its front. A claim leaves its
// queue when it is settled, and every entry when it expires. Each Claim adds only
// one entry, so a queue shrinks faster than it grows.
func (s *MemoryStore) sweep(queue []*entry, done bool, now time.Time) []*entry {
	empty := queue[:0]
	for range 2 {
		if len(queue) == 0 || now.Before(queue[0].expires) && done == (queue[0].token == 0) {
			break
		}
		e := queue[0]
		queue[0] = nil // or the array would keep it
		if queue = queue[1:]; len(queue) == 0 {
			queue = empty // at the start of the array, where there's room for the next claim
		}
		if !now.Before(e.expires) && s.entries[e.id] == e {
			delete(s.entries, e.id)
		}
	}
	return queue
}
