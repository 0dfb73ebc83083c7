package hooktest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// TestRetries checks that failures are retried until an attempt succeeds, and given up
// after five attempts.
func TestRetries(t *testing.T) {
	const fifth = "+0s 500 (took 0s)\n+1m0s 500 (took 0s)\n+2m30s 500 (took 0s)\n+5m0s 500 (took 0s)\n+9m30s "
	tests := []struct {
		name     string
		failures int
		want     string
	}{
		{"the fifth succeeds", 4, fifth + "200 (took 0s)"},
		{"all fail", 5, fifth + "500 (took 0s)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				rec := newReceiver(t, func(context.Context) error {
					if n++; n <= tt.failures {
						panic(errDown)
					}
					return nil
				})
				require.Equal(t, tt.want, hooktest.Sender{Secret: secret, Handler: rec}.Deliver(t, revoked).String())
				require.Len(t, drain(rec.handled), 5)
			})
		})
	}
}

// stuck is a Store that can't free a claim, as after a crash.
type stuck struct{ grantexhook.MemoryStore }

func (*stuck) Release(context.Context, string, int64) error { return errDown }

// TestSoonest checks that the first retry can come after 30 seconds. If a process
// crashed, its claim has expired by then, provided that Timeout is at most half of
// that.
func TestSoonest(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		want    string
	}{
		{"default", 0, "+0s 500 (took 0s)\n+30s 200 (took 0s)"},
		{"15 seconds", 15 * time.Second, "+0s 500 (took 0s)\n+30s 200 (took 0s)"},
		{"more", 15*time.Second + 1, "+0s 500 (took 0s)\n+30s 409 (took 0s)\n+1m30s 200 (took 0s)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failures := 0
				rec := newReceiver(t, func(context.Context) error {
					if failures++; failures == 1 {
						return errDown
					}
					return nil
				})
				rec.Store, rec.Timeout = new(stuck), tt.timeout
				s := hooktest.Sender{Secret: secret, Handler: rec, Soonest: true}
				require.Equal(t, tt.want, s.Deliver(t, revoked).String())
			})
		})
	}
}

func TestWithoutTheMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &grantexhook.Dispatcher{Log: silent}
		require.Equal(t, fiveTimes(500), statuses(hooktest.Sender{Secret: secret, Handler: d}.Deliver(t, revoked)))
	})
}

// TestAbort checks that a connection that the handler breaks is a failure.
func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, func(context.Context) error { panic(http.ErrAbortHandler) })
		report := hooktest.Sender{Secret: secret, Handler: rec, Attempts: 1}.Deliver(t, revoked)
		require.ErrorIs(t, report[0].Err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, report[0].Err, context.DeadlineExceeded)
	})
}

// TestHandlerSees checks that a request over memory is the same as one over the network.
func TestHandlerSees(t *testing.T) {
	seen := make(chan *http.Request, 2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := net.SplitHostPort(r.RemoteAddr); err != nil {
			t.Error(err)
		}
		r.Host = ""
		seen <- r
		io.Copy(w, r.Body)
	})
	server := httptest.NewServer(h)
	defer server.Close()
	e := hooktest.NewEvent(revoked)
	require.True(t, hooktest.Sender{Secret: secret, Handler: h, Path: "/a?b=c"}.Deliver(t, e).Delivered())
	require.True(t, hooktest.Sender{Secret: secret, URL: server.URL + "/a?b=c"}.Deliver(t, e).Delivered())
	memory, network := <-seen, <-seen
	for _, name := range []string{grantexhook.HeaderTimestamp, grantexhook.HeaderSignatureV2} { // a second may have passed
		memory.Header.Set(name, network.Header.Get(name))
	}
	require.Equal(t, "127.0.0.1:49152", memory.RemoteAddr)
	require.Equal(t, network.Header, memory.Header)
	require.Equal(t, network.RequestURI, memory.RequestURI)
	require.Equal(t, network.ContentLength, memory.ContentLength)
	require.Equal(t, network.TransferEncoding, memory.TransferEncoding)
}

// TestDeliverWaits checks that Deliver waits for a handler that is still running after
// the hang-up.
func TestDeliverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(time.Hour)
			ended = true
		})
		report := hooktest.Sender{Secret: secret, Handler: h, Attempts: 1}.Deliver(t, revoked)
		require.Equal(t, 10*time.Second, report[0].Took)
		require.True(t, ended)
	})
}

// TestOutsideABubble checks that a hang-up ends the handler's context, and that Deliver
// waits for the handler.
func TestOutsideABubble(t *testing.T) {
	var started, ended bool // on a slow machine, the sender may hang up before the handler starts
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		started = true
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		ended = true
	})
	report := hooktest.Sender{Secret: secret, Handler: h, Attempts: 1, Timeout: 20 * time.Millisecond}.Deliver(t, revoked)
	require.ErrorIs(t, report[0].Err, context.DeadlineExceeded)
	require.Equal(t, started, ended)
}

// TestHijack checks that Deliver waits for a handler that took over its connection.
func TestHijack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			conn.Close()
			time.Sleep(time.Hour)
			ended = true
		})
		report := hooktest.Sender{Secret: secret, Handler: h, Attempts: 1}.Deliver(t, revoked)
		require.Error(t, report[0].Err)
		require.True(t, ended)
	})
}

func TestPanicIsLoggedByTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errDown) })
		got := fake(func(t testing.TB) { hooktest.Sender{Secret: secret, Handler: h, Attempts: 1}.Deliver(t, revoked) })
		require.Contains(t, got.output.String(), errDown.Error())
		require.Contains(t, got.output.String(), "TestPanicIsLoggedByTheTest", "the stack")
	})
}

// TestDeadline checks that Deliver doesn't wait for a retry that would come after the
// test's deadline.
func TestDeadline(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration
		sender   hooktest.Sender
		status   int
		fatal    string
		took     time.Duration
	}{
		{"before the first retry", time.Minute - 1, hooktest.Sender{}, 500, "attempt 2 would begin after the test's deadline", 0},
		{"before the second retry", 150*time.Second - 1, hooktest.Sender{}, 500, "attempt 3 would begin after the test's deadline", time.Minute},
		{"after the last retry", 571 * time.Second, hooktest.Sender{}, 500, "", 570 * time.Second},
		{"no retry allowed", time.Second, hooktest.Sender{Attempts: 1}, 500, "", 0},
		{"no retry needed", time.Second, hooktest.Sender{}, 200, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				s := tt.sender
				s.Secret = secret
				s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) })
				got := fakeUntil(start.Add(tt.deadline), func(t testing.TB) { s.Deliver(t, revoked) })
				require.Equal(t, tt.fatal != "", got.fatal != "", got.fatal)
				require.Contains(t, got.fatal, tt.fatal)
				require.Equal(t, tt.took, time.Since(start))
			})
		})
	}
}

func TestForbiddenStatuses(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusResetContent, http.StatusNotModified} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var report hooktest.Report
				h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
				got := fake(func(t testing.TB) { report = hooktest.Sender{Secret: secret, Handler: h}.Deliver(t, revoked) })
				require.Len(t, got.errors, 1)
				require.Contains(t, got.errors[0], "crashes the real sender's process")
				require.Contains(t, got.errors[0], http.StatusText(status))
				require.Equal(t, []int{status}, statuses(report), "a crashed sender doesn't retry")
				require.False(t, report.Delivered())
			})
		})
	}
}

func TestDeliverRejects(t *testing.T) {
	h := http.NotFoundHandler()
	tests := []struct {
		name   string
		sender hooktest.Sender
		want   string
	}{
		{"no secret", hooktest.Sender{Handler: h}, "Sender.Secret: grantexhook: the secret is empty"},
		{"two targets", hooktest.Sender{Secret: secret, Handler: h, URL: "http://example.com"}, "two targets; set either"},
		{"path of a URL", hooktest.Sender{Secret: secret, URL: "http://example.com", Path: "/x"}, "Path is for a Handler"},
		{"URL without a scheme", hooktest.Sender{Secret: secret, URL: "localhost:8080"}, "http://"},
		{"too many attempts", hooktest.Sender{Secret: secret, Handler: h, Attempts: 6}, "Attempts is 6; set it to 1 to 5, or to 0 for 5"},
		{"negative attempts", hooktest.Sender{Secret: secret, Handler: h, Attempts: -1}, "Attempts is -1"},
		{"negative cut", hooktest.Sender{Secret: secret, Handler: h, Cut: -1}, "Cut is -1"},
		{"negative timeout", hooktest.Sender{Secret: secret, Handler: h, Timeout: -1}, "Timeout is -1ns; set it to more than 0, or to 0 for 10s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requireFatal(t, tt.want, func(t testing.TB) { tt.sender.Deliver(t, revoked) })
			requireFatal(t, tt.want, func(t testing.TB) { tt.sender.NewRequest(t, revoked) })
		})
	}
	requireFatal(t, "no target; set Handler or URL", func(t testing.TB) { hooktest.Sender{Secret: secret}.Deliver(t, revoked) })
	requireFatal(t, "no payload to deliver; pass at least one", func(t testing.TB) { hooktest.Sender{Secret: secret, Handler: h}.DeliverAtOnce(t) })
}

// TestSenderShowsNoSecret checks that fmt, slog and encoding/json don't show the secret,
// wherever the Sender is. It also tries verbs that don't exist.
func TestSenderShowsNoSecret(t *testing.T) {
	s := hooktest.Sender{Secret: secret, Handler: http.NotFoundHandler(), Path: "/" + secret, Attempts: 2, Skew: time.Hour}
	const want = "hooktest.Sender{Secret: [redacted], Attempts: 2, Soonest: false, Legacy: false, Skew: 1h0m0s, Cut: 0, Timeout: 0s}"
	require.Equal(t, want, fmt.Sprintf("%+v", s))
	require.Equal(t, want, fmt.Sprint(&s))
	type row struct {
		Name   string
		Sender hooktest.Sender
		P      *hooktest.Sender
	}
	values := []any{s, &s, []hooktest.Sender{s}, []*hooktest.Sender{&s}, [1]hooktest.Sender{s}, row{"x", s, &s}, &row{"x", s, nil}, []row{{"x", s, nil}},
		map[string]hooktest.Sender{"x": s}, map[string]any{"x": &s}}
	hidden := []string{secret, hex.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret))}
	requireNone(t, hidden, fmt.Sprintf("%v %+[1]v %#[1]v", struct{ s *hooktest.Sender }{&s}))
	for _, v := range values {
		for verb := '!'; verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "100", ".3", "#+"} {
				if verb == 'p' || verb == 'w' {
					continue
				}
				requireNone(t, hidden, fmt.Sprintf("%"+flags+string(verb), v))
			}
		}
		var log bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).With("with", v).WithGroup("g").Info("m", "v", v, slog.Group("deep", "v", v), "list", []any{v})
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		requireNone(t, hidden, log.String()+string(text))
	}
}

func requireNone(t *testing.T, hidden []string, text string) {
	t.Helper()
	lower := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	for _, h := range hidden {
		require.NotContains(t, lower, strings.ReplaceAll(h, " ", "")[:20])
	}
}

func TestEmptyReport(t *testing.T) {
	var r hooktest.Report
	require.False(t, r.Delivered())
	require.Empty(t, r.String())
}
