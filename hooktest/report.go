package hooktest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

// A Report lists the attempts of a delivery in order. Those that Deliver returns
// have at least one. The zero value has no attempts and isn't delivered.
type Report []Attempt

// An Attempt is one attempt as the sender sees it. Either Status or Err is set.
type Attempt struct {
	At     time.Time     // when it began, by the test's clock
	Status int           // the response's status; 0 without a complete response
	Err    error         // why there was no complete response; matches [context.DeadlineExceeded] on a timeout
	Took   time.Duration // until the end of the response, or until Err
}

// Delivered reports whether Grantex counts the event as delivered: whether the last
// attempt got a 2xx status other than 204 and 205.
func (r Report) Delivered() bool {
	return len(r) > 0 && sender.Attempt{Status: r[len(r)-1].Status}.Delivered()
}

// String returns a line for each attempt, for example "+1m0s 200 (took 1s)": the time
// since the first attempt began, the status or the error, and how long it took.
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

// check fails the test if the last response crashes the sender, or if the deadline
// prevented an attempt.
func (r Report) check(t testing.TB, attempts int) {
	t.Helper()
	switch last := (sender.Attempt{Status: r[len(r)-1].Status}); {
	case last.Crashes():
		t.Errorf("hooktest: the handler responded with %d %s, which crashes the real sender's process at every attempt; "+
			"respond with 200 and a short body, and never with 204, 205 or 304", last.Status, http.StatusText(last.Status))
	case !last.Delivered() && len(r) < attempts:
		t.Fatalf("hooktest: attempt %d would begin after the test's deadline, which go test -timeout sets; "+
			"deliver inside a testing/synctest bubble, where waiting takes no time, or set Attempts to 1; so far:\n%v", len(r)+1, r)
	}
}
