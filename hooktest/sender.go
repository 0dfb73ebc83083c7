package hooktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// A Sender delivers events to a handler or a URL as Grantex does. It sends a POST with
// a chunked body, allows ten seconds for the whole exchange and doesn't follow
// redirects. Without a 2xx status it retries, whatever Retry-After says. It makes up to
// five attempts, which begin 60, 90, 150 and 270 seconds after one another. That was
// measured with one process of Grantex. See Soonest for the minimum.
//
// All attempts have the same body. Each has a new timestamp, V2 signature and
// connection.
//
// A Sender needs a Secret and either a Handler or a URL. The zero value of every other
// field is what Grantex does. The methods don't change the Sender and are safe for
// concurrent use, each in the goroutine of its own test.
type Sender struct {
	// Secret signs the deliveries. Use one that isn't the handler's to see them
	// rejected.
	Secret string

	// Handler receives the deliveries from a real [http.Server] over connections in
	// memory, which work inside a [testing/synctest] bubble. Deliver returns only
	// after the Handler has returned, even if the Sender hung up earlier. If the
	// Handler panics, the test's log has the stack.
	Handler http.Handler

	// Path is the path of the requests to Handler, with a query if you need one. It's
	// "/" if empty. It must be empty if URL is set.
	Path string

	// URL receives the deliveries over the network, for example from an
	// [net/http/httptest.Server]. It doesn't work inside a bubble, whose clock stands
	// still while a connection waits. With https, this machine must trust the
	// certificate. For the server of httptest.NewTLSServer, send the request from
	// NewRequest with that server's Client instead.
	URL string

	// Attempts is the maximum number of attempts, from 1 to 5. It's 5 if zero.
	Attempts int

	// Soonest retries as early as Grantex can: attempts begin 30, 60, 120 and 240
	// seconds after one another. The more processes Grantex runs, the closer it comes
	// to this.
	Soonest bool

	// Legacy leaves out the timestamp and the V2 signature. A Grantex older than
	// 2026-08-13 does that, and so does an attacker who replays a delivery.
	Legacy bool

	// Skew is how far the Sender's clock is ahead of the test's. It's behind if
	// negative.
	Skew time.Duration

	// Cut is the number of attempts, from the first, whose connection breaks in the
	// middle of the body. Their Err reports it. The default is 0.
	Cut int

	// Timeout is how long an attempt may take before the Sender hangs up. It's 10
	// seconds if zero.
	Timeout time.Duration
}

// Format implements [fmt.Formatter]. It leaves out Secret, Handler, Path and URL, since
// a path or URL may contain a token. fmt doesn't call it everywhere: see
// [grantexhook.Secret].
func (s Sender) Format(f fmt.State, _ rune) { io.WriteString(f, s.text()) }

// MarshalText implements [encoding.TextMarshaler]. It leaves out the same fields as
// Format and never fails.
func (s Sender) MarshalText() ([]byte, error) { return []byte(s.text()), nil }

func (s Sender) text() string {
	return fmt.Sprintf("hooktest.Sender{Secret: [redacted], Attempts: %d, Soonest: %t, Legacy: %t, Skew: %v, Cut: %d, Timeout: %v}",
		s.Attempts, s.Soonest, s.Legacy, s.Skew, s.Cut, s.Timeout)
}

// Deliver delivers an event and returns its attempts. Whether the event should have
// been delivered is for your test to check: see [Report.Delivered].
//
// It fails the test if the Sender can't be used, if [Body] would fail the test, or if
// the status is 204, 205 or 304. Those crash the real sender, so Deliver doesn't retry
// then. Outside a bubble, it also fails the test if the next retry would come after the
// deadline of go test.
func (s Sender) Deliver(t testing.TB, p grantexhook.Payload) Report {
	t.Helper()
	return s.DeliverAtOnce(t, p)[0]
}

// DeliverAtOnce is like [Sender.Deliver] for several events, or several copies of one.
// Each is delivered in its own goroutine. It returns when all are delivered or given up,
// with the reports in the order of the arguments. Without an argument it fails the test.
func (s Sender) DeliverAtOnce(t testing.TB, payloads ...grantexhook.Payload) []Report {
	t.Helper()
	s.check(t)
	switch {
	case s.Handler == nil && s.URL == "":
		t.Fatalf("hooktest: the Sender has no target; set Handler or URL")
	case len(payloads) == 0:
		t.Fatalf("hooktest: DeliverAtOnce has no payload to deliver; pass at least one")
	}
	parcels := make([]*sender.Parcel, len(payloads))
	for i, p := range payloads {
		parcels[i] = s.parcel(t, p)
	}
	if s.Handler != nil {
		server := serve(s.Handler, log.New(t.Output(), "", 0))
		defer server.stop()
		for _, p := range parcels {
			p.Dial = server.dial
		}
	}
	ctx, cancel := untilDeadline(t)
	defer cancel()
	reports := make([]Report, len(payloads))
	var wg sync.WaitGroup
	for i, p := range parcels {
		wg.Go(func() { reports[i] = s.attempts(ctx, p) })
	}
	wg.Wait()
	for _, r := range reports {
		r.check(t, cmp.Or(s.Attempts, sender.MaxAttempts))
	}
	return reports
}

func (s Sender) parcel(t testing.TB, p grantexhook.Payload) *sender.Parcel {
	t.Helper()
	return s.pack(s.url(t), Body(t, p))
}

func (s Sender) pack(to *url.URL, body []byte) *sender.Parcel {
	return &sender.Parcel{
		URL: to, Secret: s.Secret, Body: body,
		Legacy: s.Legacy, Skew: s.Skew, Cut: s.Cut, Timeout: s.Timeout, Soonest: s.Soonest,
	}
}

// untilDeadline returns a context that ends with t, as far as that is known.
func untilDeadline(t testing.TB) (context.Context, context.CancelFunc) {
	if at, ok := deadline(t); ok {
		return context.WithDeadline(context.Background(), at)
	}
	return context.Background(), func() {}
}

// deadline returns t's deadline, if it has one. It doesn't in a bubble, where its
// method panics.
func deadline(t testing.TB) (at time.Time, ok bool) {
	defer func() { recover() }()
	if t, has := t.(interface{ Deadline() (time.Time, bool) }); has {
		return t.Deadline()
	}
	return at, false
}

func (s Sender) attempts(ctx context.Context, p *sender.Parcel) Report {
	var r Report
	for a := range p.Attempts(ctx) {
		r = append(r, Attempt{At: a.At, Status: a.Status, Err: a.Err, Took: a.Took})
		if len(r) == s.Attempts {
			break
		}
	}
	return r
}

// check fails the test if a field is out of range. A missing target is left to Deliver.
func (s Sender) check(t testing.TB) {
	t.Helper()
	if err := s.valid(); err != nil {
		t.Fatalf("hooktest: %v", err)
	}
}

func (s Sender) valid() error {
	if _, err := grantexhook.NewVerifier(s.Secret, nil); err != nil {
		return fmt.Errorf("Sender.Secret: %w", err)
	}
	switch {
	case s.Handler != nil && s.URL != "":
		return errors.New("the Sender has two targets; set either Handler or URL")
	case s.URL != "" && s.Path != "":
		return errors.New("Sender.Path is for a Handler; put the path into Sender.URL")
	case s.Attempts < 0 || s.Attempts > sender.MaxAttempts:
		return fmt.Errorf("Sender.Attempts is %d; set it to 1 to %d, or to 0 for %[2]d", s.Attempts, sender.MaxAttempts)
	case s.Cut < 0:
		return fmt.Errorf("Sender.Cut is %d; set it to 0 or more", s.Cut)
	case s.Timeout < 0:
		return fmt.Errorf("Sender.Timeout is %v; set it to more than 0, or to 0 for %v", s.Timeout, sender.Timeout)
	}
	return nil
}
