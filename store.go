package grantexhook

import (
	"context"
	"sync"
	"time"
)

// A Store remembers which events are being handled and which have been, so that
// each is handled once. It belongs to one service: a second one on the
// same one would be told "done" of events that it never saw.
//
// An id is free, claimed or done. All methods may be called concurrently, by
// several processes if the Store is shared among them, and return an error if
// they cannot tell or keep what is asked of them. Package storetest checks an
// implementation.
type Store interface {
	// Claim claims id for the time of lease if it is free, or if the lease of
	// an earlier claim has expired, and returns a token that is not zero and
	// that no other claim of id has had. Token 0 without an error means that id
	// is done, if done is set, and otherwise that someone else holds it. A
	// context that has ended may fail a Claim, which then claims nothing. One
	// that fails later, when its context ends or a connection breaks before the
	// answer came, may have claimed id, which nobody has then until the lease
	// expires.
	Claim(ctx context.Context, id string, lease time.Duration) (token int64, done bool, err error)

	// Done marks id as done for the time of keep, after which it is free. What
	// was handled is handled: it does not matter who holds the claim now, or
	// whether anyone does.
	Done(ctx context.Context, id string, keep time.Duration) error

	// Release frees id if it is still claimed with this token, and otherwise
	// does nothing: what is done stays done, and a later claim is not harmed.
	Release(ctx context.Context, id string, token int64) error
}

// A MemoryStore is a [Store] in the memory of one process, which is right for a
// service that runs as one process. It remembers nothing across restarts. The
// zero value is ready to use. It is safe for concurrent use and must not be
// copied.
//
// It needs about 150 bytes for each event that it remembers; a [Dispatcher] keeps
// events for a day. There is no background goroutine: each Claim forgets up to
// two claims and two events that have expired, in constant time.
type MemoryStore struct {
	mu      sync.Mutex
	entries map[string]*entry
	claimed queue
	done    queue
	last    int64 // token
}

type entry struct {
	id      string
	token   int64 // 0 if done
	expires time.Time

	queue      *queue
	prev, next *entry
}

// Claim implements [Store]. It never fails.
func (s *MemoryStore) Claim(_ context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(&s.claimed, now)
	s.sweep(&s.done, now)
	e := s.entry(id)
	if now.Before(e.expires) {
		return 0, e.token == 0, nil
	}
	s.last++
	e.token, e.expires = s.last, now.Add(lease)
	s.claimed.push(e)
	return e.token, false, nil
}

// Done implements [Store]. It never fails.
func (s *MemoryStore) Done(_ context.Context, id string, keep time.Duration) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(id)
	e.token, e.expires = 0, now.Add(keep)
	s.done.push(e)
	return nil
}

// Release implements [Store]. It never fails.
func (s *MemoryStore) Release(_ context.Context, id string, token int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[id]; ok && e.token == token && token != 0 {
		s.forget(e)
	}
	return nil
}

// entry returns the entry of id, a new one that has expired if there is none.
func (s *MemoryStore) entry(id string) *entry {
	e, ok := s.entries[id]
	if !ok {
		if s.entries == nil {
			s.entries = make(map[string]*entry)
		}
		e = &entry{id: id}
		s.entries[id] = e
	}
	return e
}

// sweep forgets up to two entries that have expired: more than come with a
// Claim, so that they go faster than they come.
func (s *MemoryStore) sweep(q *queue, now time.Time) {
	for range 2 {
		if e := q.first; e != nil && !now.Before(e.expires) {
			s.forget(e)
		}
	}
}

func (s *MemoryStore) forget(e *entry) {
	e.queue.remove(e)
	delete(s.entries, e.id)
}

// A queue holds entries in the order in which they expire, as long as the
// leases, or the times to keep, are all the same. It is a list whose links are
// in the entries, so that one can leave from the middle.
type queue struct{ first, last *entry }

// push puts e at the end, from whichever queue it is in.
func (q *queue) push(e *entry) {
	if e.queue != nil {
		e.queue.remove(e)
	}
	e.queue, e.prev = q, q.last
	if q.last != nil {
		q.last.next = e
	} else {
		q.first = e
	}
	q.last = e
}

func (q *queue) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.last = e.prev
	}
	e.queue, e.prev, e.next = nil, nil, nil
}
