package grantexapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"
)

const (
	// silence is how long a live stream may be silent. Grantex sends a comment every
	// 30 seconds, and the response's headers come with the first.
	silence = 90 * time.Second

	// steady is how long a stream must last for a quick reconnect. If streams kept
	// breaking at once, quick reconnects would use up the account's rate limit.
	steady = time.Minute

	// slotExpiry is how long Grantex counts a stream whose end it missed. Each try to
	// open another starts that time over.
	slotExpiry = 300 * time.Second

	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

var (
	errSilent = fmt.Errorf("the stream was silent for %v, without even a keepalive", silence)
	errEnded  = errors.New("the stream ended")
)

// A subscription is one loop over Events.
type subscription struct {
	*Client
	path  string
	yield func([]byte, error) bool
	since time.Time // as in Interrupted
	tries int       // since the last steady stream
}

func (s *subscription) run(ctx context.Context) {
	for {
		err := s.session(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !mayPass(err) {
			s.yield(nil, err)
			return
		}
		wait := s.pause(err)
		if !s.yield(nil, &Interrupted{Err: err, Wait: wait, Since: s.since}) || !sleep(ctx, wait) {
			return
		}
	}
}

// session connects once and reads until the stream ends. It returns the reason, or
// nil if the loop has ended.
func (s *subscription) session(ctx context.Context) error {
	connected, end := context.WithCancelCause(ctx)
	defer end(nil)
	dog := newWatchdog(silence, func() { end(errSilent) })
	defer dog.timer.Stop()
	resp, err := s.open(connected)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dog.Reader, dog.drained = resp.Body, time.Now()
	p := newParser(dog)
	if err := p.begin(); err != nil {
		return s.broken(connected, p, err)
	}
	if !s.yield(nil, nil) {
		return nil
	}
	if err := s.read(ctx, p, dog); err != nil {
		return s.broken(connected, p, err)
	}
	return nil
}

// open returns the response once its headers have come.
func (s *subscription) open(ctx context.Context) (*http.Response, error) {
	req, err := s.request(ctx, http.MethodGet, s.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity") // compressed events could come late
	req.Close = true                              // a broken connection must not serve the next try
	h := s.http()
	h.Timeout = 0
	resp, err := s.send(h, req)
	switch {
	case err != nil && context.Cause(ctx) == errSilent:
		return nil, s.failed(errSilent)
	case err != nil:
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		defer resp.Body.Close()
		return nil, s.noStream(resp)
	}
	return resp, nil
}

func (s *subscription) noStream(resp *http.Response) error {
	if resp.StatusCode > 299 {
		return s.rejected(resp)
	}
	return s.failed(fmt.Errorf("GET %s: unexpected response (status %d, not an event stream); is Client.BaseURL right?", s.path, resp.StatusCode))
}

// read yields events until the stream or the loop ends.
func (s *subscription) read(ctx context.Context, p *parser, dog *watchdog) error {
	for stood := time.Now(); ; {
		f, err := p.next()
		if err != nil {
			return err
		}
		if time.Since(stood) >= steady {
			s.tries = 0
		}
		since := s.since
		s.since = dog.drained
		if ctx.Err() != nil || !f.comment && !s.hand(ctx, f, since) {
			return nil
		}
	}
}

// hand yields an event, or reports that one was too large.
func (s *subscription) hand(ctx context.Context, f frame, since time.Time) bool {
	if f.data != nil {
		return s.yield(f.data, nil)
	}
	err := fmt.Errorf("grantexapi: skipped an event of %d bytes; the limit is %d", f.size, maxEvent)
	return s.yield(nil, &Interrupted{Err: err, Since: since}) && ctx.Err() == nil && s.yield(nil, nil)
}

// broken returns the error of a stream that can't be read any further.
func (s *subscription) broken(connected context.Context, p *parser, err error) error {
	switch {
	case context.Cause(connected) == errSilent:
		err = errSilent
	case err == io.EOF:
		err = errEnded
	default:
		err = fmt.Errorf("reading the stream: %w", err)
	}
	if p.cut() {
		err = fmt.Errorf("%w; it broke off in the middle of an event, which is lost", err)
	}
	return s.failed(err)
}

// pause returns how long to wait before the next try. Each wait is twice as long as the
// last, up to maxBackoff. A random extra of up to half of it keeps many clients from
// reconnecting at once.
func (s *subscription) pause(err error) time.Duration {
	wait := maxBackoff
	if s.tries < 5 {
		wait = minBackoff << s.tries
	}
	s.tries++
	wait += rand.N(wait / 2)
	rejected, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return wait
	case rejected.isTooManyStreams():
		wait += slotExpiry
	}
	return max(wait, rejected.RetryAfter)
}

// sleep waits for d, and reports whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A watchdog calls a function when a response's headers or a read take too long.
type watchdog struct {
	limit time.Duration
	timer *time.Timer
	io.Reader
	drained time.Time // when a read last had to wait for its bytes
}

func newWatchdog(limit time.Duration, bark func()) *watchdog {
	return &watchdog{limit: limit, timer: time.AfterFunc(limit, bark)}
}

// Read implements [io.Reader]. The watchdog sleeps between calls, since the time that
// the loop's body takes isn't silence. Bytes that came during that time may be old, so
// they don't count for drained.
func (w *watchdog) Read(p []byte) (int, error) {
	start := time.Now()
	w.timer.Reset(w.limit)
	defer w.timer.Stop()
	n, err := w.Reader.Read(p)
	if now := time.Now(); now.Sub(start) > time.Millisecond {
		w.drained = now
	}
	return n, err
}
