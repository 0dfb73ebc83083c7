package hooktest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// keepalive is how often Grantex sends a comment on a stream.
	keepalive = 30 * time.Second

	// maxStreams is how many streams Grantex allows an account.
	maxStreams = 5

	// slotLife is how long Grantex counts a stream whose end it missed. Each try to open
	// another starts that time over.
	slotLife = 300 * time.Second
)

// A stream is one connection to the event stream. The API's mu guards pending.
type stream struct {
	types   []string // all if nil
	pending [][]byte
	wake    chan struct{}
	crashed chan struct{}
}

// serveStream sends no header before the first event or comment, like Grantex.
func (a *API) serveStream(w http.ResponseWriter, r *http.Request) {
	if !hasKey(r) {
		respond(w, http.StatusUnauthorized, errNoKey())
		return
	}
	s := a.open(r)
	if s == nil {
		respond(w, http.StatusTooManyRequests, newAPIError("TOO_MANY_CONNECTIONS", "Too many connections"))
		return
	}
	defer a.remove(s)
	w.Header()["Connection"] = []string{"keep-alive"}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	flush := http.NewResponseController(w).Flush
	ticker := time.NewTicker(keepalive)
	defer ticker.Stop()
	for {
		frames := [][]byte{[]byte(": keepalive\n\n")}
		select {
		case <-ticker.C:
		case <-s.wake:
			frames = a.take(s)
		case <-r.Context().Done():
			return
		case <-s.crashed:
			panic(http.ErrAbortHandler)
		case <-a.ctx.Done():
			panic(http.ErrAbortHandler)
		}
		for _, frame := range frames {
			if _, err := w.Write(frame); err != nil || flush() != nil {
				return
			}
		}
	}
}

// open returns nil if the account has too many streams.
func (a *API) open(r *http.Request) *stream {
	s := &stream{wake: make(chan struct{}, 1), crashed: make(chan struct{})}
	if types := r.URL.Query().Get("types"); types != "" {
		s.types = strings.Split(types, ",")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !now.Before(a.forgotten) {
		a.leaked = 0
	}
	a.forgotten = now.Add(slotLife)
	if len(a.streams)+a.leaked >= maxStreams {
		return nil
	}
	a.streams[s] = true
	return s
}

func (a *API) remove(s *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, s)
}

func (a *API) take(s *stream) [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	frames := s.pending
	s.pending = nil
	return frames
}

// broadcast puts an event on all streams that want its type.
func (a *API) broadcast(eventType string, body []byte) {
	frame := slices.Concat([]byte("data: "), body, []byte("\n\n"))
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.streams {
		if s.types != nil && !slices.Contains(s.types, eventType) {
			continue
		}
		s.pending = append(s.pending, frame)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Crash breaks all streams, as if the process of Grantex that serves them was killed.
// Grantex allows an account five streams, and it goes on counting those that broke this
// way. It forgets them after 300 seconds without a try to open a stream. Each try starts
// that time over, even one that gets a 429, so a client that retries sooner locks itself
// out.
//
// To cut streams without this trap, see [API.Intercept].
func (a *API) Crash() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaked += len(a.streams)
	a.forgotten = time.Now().Add(slotLife)
	for s := range a.streams {
		close(s.crashed)
	}
	clear(a.streams)
}

// sleep reports whether ctx lasted for d.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
