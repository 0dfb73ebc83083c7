// Package sender delivers events as Grantex delivers them, byte for byte and
// second for second, as far as that was measured. It is what hooktest and the
// command-line tool have in common.
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

// Timeout is how long Grantex waits for a whole exchange, the body of the answer
// included.
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

// MaxAttempts is how many attempts Grantex makes before it gives an event up.
const MaxAttempts = 1 + len(gaps)

// ErrCut is the error of an attempt that was cut on request.
var ErrCut = errors.New("grantexhook: the connection was cut in the middle of the body, as asked")

// A Delivery is one event on its way to one endpoint. It is not changed by its
// methods, so that they may be called concurrently.
type Delivery struct {
	URL    *url.URL // the endpoint's; see [ParseURL]
	Secret string   // the endpoint's
	Body   []byte   // see [Body]

	Legacy  bool          // neither timestamp nor V2, like senders older than 2026-08-13
	Skew    time.Duration // how far the sender's clock is ahead
	Cut     int           // how many of the first attempts are cut in the middle of the body
	Timeout time.Duration // of one attempt: [Timeout] if zero
	Soonest bool          // retries as early as Grantex can, not as measured

	// Dial connects to the endpoint: that of [net.Dialer] if nil. A URL with
	// https gets TLS on top of it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// An Attempt is the outcome of one attempt at a delivery.
type Attempt struct {
	At     time.Time     // when it began
	Status int           // of the answer, 0 if there was no whole one
	Err    error         // why there was none; matches context.DeadlineExceeded if time ran out
	Took   time.Duration // until the end of the answer, or until Err
}

// Delivered reports whether Grantex counts the attempt as a success.
func (a Attempt) Delivered() bool {
	return a.Status >= 200 && a.Status < 300 && !a.Crashes()
}

// Crashes reports whether the answer takes down the process of the real sender.
func (a Attempt) Crashes() bool {
	switch a.Status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return true
	}
	return false
}

// ParseURL parses the URL of an endpoint. Its errors do not quote the URL, which
// may hold a password.
func ParseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, errors.New("grantexhook: the URL is malformed")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("grantexhook: the URL must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("grantexhook: the URL has no host")
	case u.User != nil:
		return nil, errors.New("grantexhook: the URL has a user in it, which Grantex does not accept")
	}
	return u, nil
}

// Attempts makes the attempts at the delivery and yields each when it's over. It
// makes up to [MaxAttempts], at the measured times or with Soonest at the earliest.
// It stops when one succeeds, one crashes the sender, ctx ends, or the next would
// come after its deadline. Each is signed again. Only the status counts: redirects
// aren't followed, and Retry-After is ignored.
func (d *Delivery) Attempts(ctx context.Context) iter.Seq[Attempt] {
	gaps := gaps
	if d.Soonest {
		gaps = soonest
	}
	return func(yield func(Attempt) bool) {
		for n := range MaxAttempts {
			a := d.attempt(ctx, n < d.Cut)
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

func (d *Delivery) attempt(ctx context.Context, cut bool) Attempt {
	timeout := cmp.Or(d.Timeout, Timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	status, err := d.exchange(ctx, start.Add(d.Skew), cut)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("grantexhook: no whole answer within %v: %w", timeout, context.DeadlineExceeded)
	}
	return Attempt{At: start, Status: status, Err: err, Took: time.Since(start)}
}

// Header returns the headers of an attempt that is signed at the given time, in
// the canonical form.
func (d *Delivery) Header(at time.Time) http.Header {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Grantex-Webhooks/0.1")
	grantexhook.Sign(h, d.Secret, d.Body, at)
	if d.Legacy {
		h.Del(grantexhook.HeaderTimestamp)
		h.Del(grantexhook.HeaderSignatureV2)
	}
	return h
}
