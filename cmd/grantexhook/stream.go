package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// silence is how long nothing may come from a stream that lives: three of the
// comments that Grantex sends every 30 seconds, the first of which brings the
// headers.
const silence = 90 * time.Second

var (
	errSilent = fmt.Errorf("nothing came for %v, not even a keepalive", silence)
	errEnded  = errors.New("the stream ended")
)

// A streamer opens the event stream of an account. The Client knows how to reach
// the API and how to read its refusals, but not how to stream: so the streamer
// is its transport, asks for the stream instead and keeps that if it comes.
type streamer struct {
	client    grantexapi.Client
	transport http.RoundTripper
	types     []string

	opened *http.Response
	err    error // why there was no answer
}

func newStreamer(client grantexapi.Client, transport http.RoundTripper, types []string) *streamer {
	s := &streamer{client: client, transport: transport, types: types}
	s.client.HTTPClient = &http.Client{Transport: s} // without a Timeout: a stream has no end
	return s
}

// open returns the stream once its headers have come. An error that is not
// temporary (see [temporary]) would come again.
func (s *streamer) open(ctx context.Context) (io.ReadCloser, error) {
	s.opened, s.err = nil, nil
	_, err := s.client.List(ctx)
	switch {
	case s.opened == nil && s.err == nil:
		return nil, err
	case s.err != nil:
		return nil, &lostError{s.err}
	}
	return s.opened.Body, nil
}

// RoundTrip implements [http.RoundTripper].
func (s *streamer) RoundTrip(req *http.Request) (*http.Response, error) {
	base := strings.TrimSuffix(req.URL.String(), "/v1/webhooks")
	to, err := url.Parse(base + "/v1/events/stream?" + url.Values{"types": {strings.Join(s.types, ",")}}.Encode())
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.URL = to
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		s.err = err
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		resp.Body.Close()
		return nil, errors.New("the answer is no event stream; is GRANTEX_URL right?")
	}
	s.opened = resp
	return nil, errors.New("the stream is open")
}

// A lostError is a connection that failed, and that may do better next time.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// temporary reports whether to connect again after err, and how long to wait at
// least.
func temporary(err error) (wait time.Duration, again bool) {
	if refusal, ok := errors.AsType[*grantexapi.Error](err); ok {
		switch code := refusal.StatusCode; {
		case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
			return refusal.RetryAfter, true
		}
		return 0, false
	}
	_, lost := errors.AsType[*lostError](err)
	return 0, lost
}

// A watchdog ends a context when nothing happens for too long while it waits.
type watchdog struct {
	timer *time.Timer
	io.Reader
}

func newWatchdog(end context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(silence, func() { end(errSilent) })}
}

// Read implements [io.Reader]. Between the calls the watchdog sleeps: that an
// event takes time to be dealt with is no silence.
func (w *watchdog) Read(p []byte) (int, error) {
	w.timer.Reset(silence)
	defer w.timer.Stop()
	return w.Reader.Read(p)
}
