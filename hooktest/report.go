package hooktest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

// A Report is what became of a delivery: its attempts in their order, at least
// one.
type Report []Attempt

// An Attempt is what the sender sees of one attempt.
type Attempt struct {
	At     time.Time     // when it began, by the clock of the test
	Status int           // of the answer: 0 if there was no whole one
	Err    error         // why there was none: matches [context.DeadlineExceeded] if time ran out
	Took   time.Duration // until the end of the answer, or until Err
}

// Delivered reports whether Grantex counts the event as delivered: whether the
// last attempt was answered with 2xx, but with neither 204 nor 205.
func (r Report) Delivered() bool {
	return len(r) > 0 && sender.Attempt{Status: r[len(r)-1].Status}.Delivered()
}

// String returns a line for each attempt: when it began after the first, its
// status or error, and how long it took.
func (r Report) String() string {
	lines := make([]string, len(r))
	for i, a := range r {
		var outcome any = a.Status
		if a.Err != nil {
			outcome = a.Err
		}
		lines[i] = fmt.Sprintf("+%v %v (took %v)", a.At.Sub(r[0].At).Round(time.Millisecond), outcome, a.Took.Round(time.Millisecond))
	}
	return strings.Join(lines, "\n")
}

// check fails the test if the last answer crashes the sender, or if the deadline
// kept it from making all of its attempts.
func (r Report) check(t testing.TB, attempts int) {
	t.Helper()
	switch last := (sender.Attempt{Status: r[len(r)-1].Status}); {
	case last.Crashes():
		t.Errorf("hooktest: the handler answered %d %s, which CRASHES the process of the real sender, again at every attempt; never answer 204, 205 or 304: answer 200 with a short body",
			last.Status, http.StatusText(last.Status))
	case !last.Delivered() && len(r) < attempts:
		t.Fatalf("hooktest: attempt %d would begin after the deadline of the test, which is that of go test -timeout; deliver inside a testing/synctest bubble, where waiting takes no time, or set Attempts to 1; so far:\n%v",
			len(r)+1, r)
	}
}
