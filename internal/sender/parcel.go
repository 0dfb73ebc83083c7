// Package sender delivers events the way Grantex does, byte for byte and second
// for second, as far as that was measured. Package hooktest and the command-line
// tool share it.
package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"time"

	"grantex.dev/grantexhook"
)

// Timeout is how long Grantex waits for a whole exchange, including the body of
// the response.
const Timeout = 10 * time.Second

// The times from the start of one attempt to the start of the next. Grantex
// doubles a pause of 30 seconds, and each of its processes checks every 30 seconds
// what is due.
var (
	// gaps were measured with one process. They don't depend on how long an
	// attempt takes.
	gaps = [...]time.Duration{60 * time.Second, 90 * time.Second, 150 * time.Second, 270 * time.Second}

	// soonest is just the pauses. With many processes, Grantex comes close to it.
	soonest = [len(gaps)]time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second, 240 * time.Second}
)

// MaxAttempts is how many attempts Grantex makes before it gives up on an event.
const MaxAttempts = 1 + len(gaps)

// ErrCut is the error of an attempt that was cut on request.
var ErrCut = errors.New("grantexhook: the connection was cut in the middle of the body, as requested")

// A Parcel is one event on its way to one endpoint. Its methods don't change it
// and may be called concurrently.
type Parcel struct {
	URL    *url.URL // of the endpoint; see [ParseURL]
	Secret string   // of the endpoint
	Body   []byte   // see [Body]

	Legacy  bool          // neither timestamp nor V2, like Grantex before 2026-08-13
	Skew    time.Duration // how far the sender's clock is ahead
	Cut     int           // how many of the first attempts are cut in the middle of the body
	Timeout time.Duration // of one attempt: [Timeout] if zero
	Soonest bool          // retries as early as Grantex can, not as measured

	// Dial connects to the endpoint. If it's nil, a [net.Dialer] does. A URL with
	// https gets TLS on top of it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// An Attempt is the outcome of one attempt to deliver a Parcel.
type Attempt struct {
	At      time.Time     // when it began
	Status  int           // of the response, or 0 if it didn't arrive completely
	Excerpt string        // of the response's body: its first bytes, at most 512
	Err     error         // why there is no Status; matches context.DeadlineExceeded if time ran out
	Took    time.Duration // until the end of the response, or until Err
}

// Delivered reports whether Grantex counts the attempt as a success.
func (a Attempt) Delivered() bool {
	return a.Status >= 200 && a.Status < 300 && !a.Crashes()
}

// Crashes reports whether the response crashes the real sender's process.
func (a Attempt) Crashes() bool {
	switch a.Status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return true
	}
	return false
}

// Attempts makes the attempts to deliver the parcel and yields each when it's
// over. It makes up to [MaxAttempts], at the measured times, or with Soonest as early
// as Grantex can. It stops when an attempt succeeds or crashes the sender, when ctx
// ends, or if the next attempt would come after ctx's deadline. Each attempt has a new
// signature. Only the status counts: redirects aren't followed, and Retry-After is
// ignored.
func (p *Parcel) Attempts(ctx context.Context) iter.Seq[Attempt] {
	gaps := gaps
	if p.Soonest {
		gaps = soonest
	}
	return func(yield func(Attempt) bool) {
		for n := range MaxAttempts {
			a := p.attempt(ctx, n < p.Cut)
			if !yield(a) || a.Delivered() || a.Crashes() || n == len(gaps) {
				return
			}
			if !sleepUntil(ctx, a.At.Add(gaps[n])) {
				return
			}
		}
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(at) {
		return false
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Parcel) attempt(ctx context.Context, cut bool) Attempt {
	timeout := cmp.Or(p.Timeout, Timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := Attempt{At: time.Now()}
	a.Status, a.Excerpt, a.Err = p.exchange(ctx, a.At.Add(p.Skew), cut)
	if a.Err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		a.Err = fmt.Errorf("grantexhook: timed out after %v: %w", timeout, context.DeadlineExceeded)
	}
	a.Took = time.Since(a.At)
	return a
}

// Header returns the headers of an attempt signed at the given time, in canonical form.
func (p *Parcel) Header(at time.Time) http.Header {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Grantex-Webhooks/0.1")
	grantexhook.Sign(h, p.Secret, p.Body, at)
	if p.Legacy {
		h.Del(grantexhook.HeaderTimestamp)
		h.Del(grantexhook.HeaderSignatureV2)
	}
	return h
}
