package hooktest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// A Sender delivers events to a handler or a URL as Grantex does: as a POST with
// a chunked body, ten seconds for the whole exchange, and no redirect followed.
// Without a 2xx it retries, whatever Retry-After says. It makes up to five
// attempts, which begin 60, 90, 150 and 270 seconds after one another, as measured
// with one process of Grantex (see Soonest). All have the same body, but each has
// a new timestamp and V2 signature. Each also has a new connection, although it
// asks for keep-alive as Grantex does.
//
// It needs a Secret and either a Handler or a URL; the zero value of every other
// field is what Grantex does. Its methods do not change it and may be called
// concurrently, each from the goroutine of its test.
type Sender struct {
	// Secret signs the deliveries: that of the handler, or another to see them
	// refused.
	Secret string

	// Handler is delivered to by a real [http.Server] over connections in
	// memory, which work inside a [testing/synctest] bubble. What still runs in
	// it after the last hang-up is waited for: when Deliver returns, nothing of
	// the delivery is under way any more. If the Handler never returns, Deliver
	// does not either. The log of the test has the stack of one that panics.
	Handler http.Handler

	// Path of the request to Handler, with a query if there is one: "/" if
	// empty. A URL has its own.
	Path string

	// URL is delivered to over the network, as is the one of an
	// [net/http/httptest.Server]. Not inside a bubble: its clock stands still
	// while anything waits for a network. With https the certificate has to be
	// one that this machine trusts, which that of httptest.NewTLSServer is not:
	// send it a NewRequest with the Client of that server.
	URL string

	// Attempts is how many attempts are made, from 1 to 5: 5 if zero.
	Attempts int

	// Soonest retries as early as Grantex can: attempts begin 30, 60, 120 and 240
	// seconds after one another. The more processes Grantex runs, the closer it
	// comes to this.
	Soonest bool

	// Legacy leaves out the timestamp and the V2 signature, like a Grantex older
	// than 2026-08-13, or someone who replays a delivery without them.
	Legacy bool

	// Skew is how far the clock of the Sender is ahead of the test's, behind if
	// negative.
	Skew time.Duration

	// Cut is how many of the first attempts lose their connection in the middle
	// of the body: none if zero. The Err of such an attempt says so.
	Cut int

	// Timeout is how long an attempt may take before the Sender hangs up: 10
	// seconds if zero.
	Timeout time.Duration
}

// Format implements [fmt.Formatter]. It leaves out the Secret, the target and the
// path. [grantexhook.Secret] lists where fmt and others don't call it.
func (s Sender) Format(f fmt.State, _ rune) { io.WriteString(f, s.text()) }

// MarshalText implements [encoding.TextMarshaler]. It leaves out the same fields as
// Format.
func (s Sender) MarshalText() ([]byte, error) { return []byte(s.text()), nil }

// text leaves out whatever may contain a secret, for example a URL with a token.
func (s Sender) text() string {
	return fmt.Sprintf("hooktest.Sender{Secret: [redacted], Attempts: %d, Soonest: %t, Legacy: %t, Skew: %v, Cut: %d, Timeout: %v}",
		s.Attempts, s.Soonest, s.Legacy, s.Skew, s.Cut, s.Timeout)
}

// Deliver delivers an event and returns the attempts that were made. It fails
// the test if the Sender or p cannot be used (see [Body]), and if the answer is
// 204, 205 or 304: there the real sender crashes, and here the attempts end.
// Outside a bubble it also fails the test instead of waiting for a retry that
// would come after the deadline of go test -timeout. Whether the event had to be
// delivered is for the test to say.
func (s Sender) Deliver(t testing.TB, p grantexhook.Payload) Report {
	t.Helper()
	return s.DeliverAtOnce(t, p)[0]
}

// DeliverAtOnce is like [Sender.Deliver] for several events, or several copies
// of one, each in a goroutine of its own. It returns, in the order of the
// arguments, when the last of them is delivered or given up. It fails the test if
// there is none.
func (s Sender) DeliverAtOnce(t testing.TB, payloads ...grantexhook.Payload) []Report {
	t.Helper()
	s.check(t)
	switch {
	case s.Handler == nil && s.URL == "":
		t.Fatalf("hooktest: the Sender has no target; set Handler or URL")
	case len(payloads) == 0:
		t.Fatalf("hooktest: there is nothing to deliver; give DeliverAtOnce at least one payload")
	}
	delivery := sender.Parcel{URL: s.url(t), Secret: s.Secret, Legacy: s.Legacy, Skew: s.Skew, Cut: s.Cut, Timeout: s.Timeout, Soonest: s.Soonest}
	bodies := make([][]byte, len(payloads))
	for i, p := range payloads {
		bodies[i] = Body(t, p)
	}
	if s.Handler != nil {
		server := serve(t, s.Handler)
		defer server.stop()
		delivery.Dial = server.dial
	}
	ctx := context.Background()
	if at, ok := deadline(t); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, at)
		defer cancel()
	}
	reports := make([]Report, len(payloads))
	var wg sync.WaitGroup
	for i := range payloads {
		wg.Go(func() {
			d := delivery
			d.Body = bodies[i]
			reports[i] = s.attempts(ctx, &d)
		})
	}
	wg.Wait()
	for _, r := range reports {
		r.check(t, cmp.Or(s.Attempts, sender.MaxAttempts))
	}
	return reports
}

// deadline returns when t has to have ended, if it has to. Inside a bubble it has
// not, and its method panics.
func deadline(t testing.TB) (at time.Time, ok bool) {
	defer func() { recover() }()
	if t, has := t.(interface{ Deadline() (time.Time, bool) }); has {
		return t.Deadline()
	}
	return at, false
}

func (s Sender) attempts(ctx context.Context, d *sender.Parcel) Report {
	var r Report
	for a := range d.Attempts(ctx) {
		r = append(r, Attempt{At: a.At, Status: a.Status, Err: a.Err, Took: a.Took})
		if len(r) == s.Attempts {
			break
		}
	}
	return r
}

// check fails the test if the Sender can neither deliver nor make a request.
func (s Sender) check(t testing.TB) {
	t.Helper()
	if _, err := grantexhook.NewVerifier(s.Secret, nil); err != nil {
		t.Fatalf("hooktest: Sender.Secret: %v", err)
	}
	switch {
	case s.Handler != nil && s.URL != "":
		t.Fatalf("hooktest: the Sender has two targets; set either Handler or URL")
	case s.URL != "" && s.Path != "":
		t.Fatalf("hooktest: Sender.Path is for a Handler; the URL has a path of its own")
	case s.Attempts < 0 || s.Attempts > sender.MaxAttempts:
		t.Fatalf("hooktest: Sender.Attempts is %d; Grantex makes 1 to %d, and 0 stands for %[2]d", s.Attempts, sender.MaxAttempts)
	case s.Cut < 0:
		t.Fatalf("hooktest: Sender.Cut is %d; it must not be negative", s.Cut)
	case s.Timeout < 0:
		t.Fatalf("hooktest: Sender.Timeout is %v; it must be positive, or 0 for %v", s.Timeout, sender.Timeout)
	}
}

// The addresses of the connections in memory are such as a server on this
// machine sees: handlers may want to parse them.
var (
	serverAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	clientAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 49152}
)
