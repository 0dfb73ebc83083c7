package grantexapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// silence is how long a live stream may send nothing. Grantex sends a comment
	// every 30 seconds, and the response's headers come with the first.
	silence = 90 * time.Second

	// steady is how long a stream must last to be worth a quick reconnect. One that
	// breaks at once, again and again, would use up the account's calls.
	steady = time.Minute

	// slotExpiry is how long Grantex counts a stream whose end it missed, from the
	// last try to open another. A try before that starts the time over.
	slotExpiry = 300 * time.Second

	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

var (
	errSilent = fmt.Errorf("nothing came for %v, not even a keepalive", silence)
	errEnded  = errors.New("the stream ended")
)

// An Interrupted is the error that [Client.Events] yields when the stream breaks or
// is refused, or when an event is too large. Events goes on by itself after it.
type Interrupted struct {
	Err   error         // the reason; an [*Error] if the API refused the stream
	Wait  time.Duration // before Events connects again; zero if the connection stands and only an event of more than 1 MiB was skipped
	Since time.Time     // when the last event or keepalive came, or the loop began; later events may be missing
}

// Error returns the reason and the wait on one line.
func (e *Interrupted) Error() string {
	switch refused, ok := errors.AsType[*Error](e.Err); {
	case e.Wait == 0:
		return e.Err.Error()
	case ok && refused.isTooManyStreams():
		return fmt.Sprintf("%v; connecting again in %v, since a try within %v would only prolong this", e.Err, e.Wait.Round(100*time.Millisecond), slotExpiry)
	}
	return fmt.Sprintf("%v; connecting again in %v", e.Err, e.Wait.Round(100*time.Millisecond))
}

// Unwrap returns Err.
func (e *Interrupted) Unwrap() error { return e.Err }

// Events returns the account's live stream of events, of these types or of all types
// if there are none. It connects when the loop begins, and again by itself whenever
// the stream breaks. A body is what a webhook receives, byte for byte: pass it to
// [grantexhook.Dispatcher.Dispatch]. Unlike a webhook, the stream isn't repeated. An
// event that happens during an interruption is missing.
//
// The loop gets one of these:
//   - nil, nil: the stream stands, for the first time or again. Events may be missing
//     before it.
//   - A body, nil: an event. You may keep the body.
//   - nil, an [*Interrupted]: the stream broke, or was refused with a status that may
//     pass: 408, 425, 429 or 5xx. Events waits for Interrupted.Wait and connects again.
//   - nil, any other error: a retry wouldn't help, and the sequence ends. An argument or
//     a field of the Client is invalid, or the API returned another 4xx or a redirect.
//
// The sequence also ends, without an error, when ctx ends.
//
// The waits grow from a second to 45 seconds, and are short again after a stream that
// lasted a minute. They're at least as long as the API asks for, up to an hour. If the
// account has too many streams (Grantex allows five), the wait is more than five
// minutes: a killed process counts for that long, and an earlier try would prolong it.
// A stream that sends nothing for 90 seconds counts as broken.
//
// Events reads only while your loop waits for the next event, and the time your loop
// takes never counts as silence. An HTTPClient of yours must not retry, and its Timeout
// doesn't apply.
func (c *Client) Events(ctx context.Context, types ...string) iter.Seq2[[]byte, error] {
	path, err := streamPath(types)
	return func(yield func([]byte, error) bool) {
		if err != nil {
			yield(nil, err)
			return
		}
		s := subscription{Client: c, path: path, yield: yield, since: time.Now()}
		s.run(ctx)
	}
}

func streamPath(types []string) (string, error) {
	if slices.ContainsFunc(types, func(t string) bool { return t == "" || strings.ContainsAny(t, ", ") }) {
		return "", errors.New("grantexapi: a type of event is empty or has a comma or a space; pass each type as a separate argument")
	}
	if len(types) == 0 {
		return "/v1/events/stream", nil
	}
	return "/v1/events/stream?" + url.Values{"types": {strings.Join(types, ",")}}.Encode(), nil
}

// A subscription is one loop over Events.
type subscription struct {
	*Client
	path  string
	yield func([]byte, error) bool
	since time.Time // when the last whole event or comment came, or the loop began
	tries int       // without a steady stream
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
	dog := newWatchdog(end)
	defer dog.timer.Stop()
	resp, err := s.open(connected)
	switch {
	case context.Cause(connected) == errSilent:
		return s.failed(errSilent)
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	dog.Reader = resp.Body
	p := newParser(dog)
	if err := p.begin(); err != nil {
		return s.broken(connected, p, err)
	}
	if !s.yield(nil, nil) {
		return nil
	}
	if err := s.read(ctx, p); err != nil {
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
	req.Close = true                              // a connection that broke must not serve the next try
	h := s.http()
	h.Timeout = 0
	resp, err := s.send(h, req)
	if err != nil {
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
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		return newError(resp, text, string(s.APIKey))
	}
	return s.failed(fmt.Errorf("GET %s: unexpected response (status %d, not an event stream); is Client.BaseURL right?", s.path, resp.StatusCode))
}

// read yields events until the stream or the loop ends.
func (s *subscription) read(ctx context.Context, p *parser) error {
	for stood := time.Now(); ; {
		f, err := p.next()
		if err != nil {
			return err
		}
		since := s.since
		s.since = time.Now()
		if s.since.Sub(stood) >= steady {
			s.tries = 0
		}
		if ctx.Err() != nil || !f.comment && !s.hand(f, since) {
			return nil
		}
	}
}

// hand yields an event, or reports that one was too large.
func (s *subscription) hand(f frame, since time.Time) bool {
	if f.data != nil {
		return s.yield(f.data, nil)
	}
	err := fmt.Errorf("grantexapi: an event of %d bytes is skipped: more than %d are not kept", f.size, maxEvent)
	return s.yield(nil, &Interrupted{Err: err, Since: since}) && s.yield(nil, nil)
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
		err = fmt.Errorf("%w; it broke off within an event, which is lost", err)
	}
	return s.failed(err)
}

// pause returns how long to wait before the next try. Each is twice as long as the
// one before, up to maxBackoff, and up to half as long again at random, so many
// clients don't come back at once.
func (s *subscription) pause(err error) time.Duration {
	wait := maxBackoff
	if s.tries < 5 {
		wait = minBackoff << s.tries
	}
	s.tries++
	wait += rand.N(wait / 2)
	refused, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return wait
	case refused.isTooManyStreams():
		wait += slotExpiry
	}
	return max(wait, refused.RetryAfter)
}

// sleep reports whether ctx lasted for d.
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

// A watchdog ends a context when a read takes too long.
type watchdog struct {
	timer *time.Timer
	io.Reader
}

func newWatchdog(end context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(silence, func() { end(errSilent) })}
}

// Read implements [io.Reader]. The watchdog sleeps between calls, since the time to
// handle an event is no silence.
func (w *watchdog) Read(p []byte) (int, error) {
	w.timer.Reset(silence)
	defer w.timer.Stop()
	return w.Reader.Read(p)
}
