package grants_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grants"
)

// A logbook keeps the lines of a log.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

// Write implements [io.Writer].
func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(line)))
	return len(line), nil
}

func (l *logbook) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// about returns the lines that contain text since the last call.
func (l *logbook) about(text string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	l.lines = nil
	return lines
}

// serve answers with h from now on, or rightly if h is nil.
func (w *world) serve(h http.HandlerFunc, what ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range what {
		w.on[name] = h
	}
}

func (w *world) toldSoFar() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told
}

func reply(status int, text string, header ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			rw.Header().Set(header[i], header[i+1])
		}
		rw.WriteHeader(status)
		fmt.Fprint(rw, text)
	}
}

func apiError(status int, code string) http.HandlerFunc {
	return reply(status, fmt.Sprintf(`{"message":"No","code":%q,"requestId":"r"}`, code))
}

// broken breaks the connection after text.
func broken(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, text)
		http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}
}

// trickle sends first, then one of so many grants each 29 seconds.
func trickle(n int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, `{"grants":[`, activeGrant("grnt_first"))
		for i := range n {
			http.NewResponseController(rw).Flush()
			if !sleep(r.Context(), 29*time.Second) {
				return
			}
			fmt.Fprint(rw, ",", activeGrant("grnt_trickle"+strconv.Itoa(i)))
		}
		fmt.Fprint(rw, `]}`)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.String()
}

const (
	html     = "<html><title>Sign in</title></html>"
	invalid  = "not the expected JSON"
	warning  = "level=WARN"
	loud     = "level=ERROR"
	noRoute  = `{"message":"Route GET:/v1/grants not found","error":"Not Found","statusCode":404}`
	hundredK = 100_000
)

// A hostile is a response that proves nothing.
type hostile struct {
	name  string
	serve http.HandlerFunc
	level string // of the log
	text  string // in the log
}

// hostileAnywhere are responses to lists and to questions.
var hostileAnywhere = []hostile{
	{"rate limit", reply(429, `{"code":"RATE_LIMIT_EXCEEDED"}`, "Retry-After", "18"), warning, "429 RATE_LIMIT_EXCEEDED"},
	{"key rotated", apiError(401, "UNAUTHORIZED"), loud, "401 UNAUTHORIZED"},
	{"forbidden", apiError(403, "FORBIDDEN"), loud, "403 FORBIDDEN"},
	{"plan limit", apiError(402, "PLAN_LIMIT_EXCEEDED"), loud, "402 PLAN_LIMIT_EXCEEDED"},
	{"server error", apiError(500, "INTERNAL_ERROR"), warning, "500 INTERNAL_ERROR"},
	{"gateway error", reply(502, html), warning, "502: Sign in"},
	{"not found by a proxy", reply(404, html), loud, "404: Sign in"},
	{"not found by another route", reply(404, noRoute), loud, "404: Route GET:/v1/grants not found"},
	{"gone", reply(410, html), loud, "410: Sign in"},
	{"redirect", reply(302, "", "Location", "https://login.example/?next=grants"), loud, "redirect to https://login.example"},
	{"page", reply(200, html, "Content-Type", "text/html"), loud, invalid},
	{"empty body", reply(200, ""), loud, invalid},
	{"no content", reply(204, ""), loud, invalid},
	{"empty object", reply(200, "{}"), loud, invalid},
	{"array", reply(200, "[]"), loud, invalid},
	{"null", reply(200, "null"), loud, invalid},
	{"too long", reply(200, `{"x":"`+strings.Repeat("x", 2<<20)+`"}`), loud, "is Client.BaseURL right?"},
	{"silence", hang, warning, ""},
	{"connection closed", broken(""), loud, "unexpected EOF"},
	{"gzip cut off", reply(200, gzipped(`{"grants":[]}`)[:20], "Content-Encoding", "gzip"), loud, "unexpected EOF"},
}

// hostileLists are responses to lists. The first list came from dev_1.
var hostileLists = []hostile{
	{"grants is null", reply(200, `{"grants":null}`), loud, invalid},
	{"grants is an object", reply(200, `{"grants":{}}`), loud, invalid},
	{"grants twice", reply(200, `{"grants":[],"grants":[]}`), loud, invalid},
	{"not found", apiError(404, "NOT_FOUND"), loud, "404 NOT_FOUND"},
	{"trailing text", reply(200, `{"grants":[]}{"grants":[]}`), loud, invalid},
	{"empty ID", reply(200, listOf([]string{""})), loud, invalid},
	{"no status", reply(200, `{"grants":[{"grantId":"grnt_1","developerId":"dev_1"}]}`), loud, invalid},
	{"time that isn't one", reply(200, `{"grants":[{"grantId":"a","status":"active","expiresAt":"soon"}]}`), loud, invalid},
	{"another account", reply(200, strings.ReplaceAll(listOf([]string{"grnt_1"}), "dev_1", "dev_2")), loud, "another account"},
	{"two accounts", reply(200, `{"grants":[`+activeGrant("a")+`,`+strings.ReplaceAll(activeGrant("b"), "dev_1", "dev_2")+`]}`), loud, "another account"},
	{"connection broken", broken(`{"grants":[` + activeGrant("grnt_1")), loud, "unexpected EOF"},
	{"one grant every 29 seconds", trickle(1000), loud, "longer than MaxAge"},
	{"longer than MaxAge", trickle(11), loud, "longer than MaxAge"},
}

// TestHostileLists checks that wrong lists end no grant and prove no grant, and what the
// log says.
func TestHostileLists(t *testing.T) {
	for _, tt := range append(hostileLists, hostileAnywhere...) {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := newWorld(t, grants.Options{NoStream: true, Log: log.log()})
				w.DeveloperID = "dev_1"
				id, watched := w.grant(), w.grant()
				w.cache.Watch(watched)
				w.run()
				require.NoError(t, w.cache.Sync(t.Context()))
				var a audience
				a.join(t, w.cache, id)

				w.serve(tt.serve, "list")
				time.Sleep(20 * time.Minute)
				require.Zero(t, a.lost(), "questions are answered")
				require.NoError(t, w.cache.Check(t.Context(), id))
				require.NoError(t, w.cache.Check(t.Context(), watched))
				requireLoggedOnce(t, log.about("listing the active grants"), tt)
				require.Error(t, w.cache.Status().Err)

				w.serve(reply(503, ""), id, watched)
				w.requireStaleAfterMaxAge(&a, id)

				w.Revoke(id)
				w.serve(nil, "list", id, watched)
				require.NoError(t, w.cache.Sync(t.Context()))
				synctest.Wait()
				require.Equal(t, [][]string{{id}}, w.toldSoFar())
				require.NoError(t, w.cache.Check(t.Context(), watched))
				require.Len(t, log.about("INFO msg=\"grants: works again: listing"), 1)
			})
		})
	}
}

// requireStaleAfterMaxAge waits until nothing proves a grant any more.
func (w *world) requireStaleAfterMaxAge(a *audience, id string) {
	w.Helper()
	time.Sleep(5 * time.Minute)
	require.Equal(w, 1, a.lost())
	require.ErrorIs(w, context.Cause(a.open[0]), grants.ErrStale)
	for range 100 {
		require.ErrorIs(w, w.cache.Check(w.Context(), id), grants.ErrStale)
		time.Sleep(time.Second)
	}
	require.Empty(w, w.toldSoFar())
}

func requireLoggedOnce(t *testing.T, lines []string, want hostile) {
	t.Helper()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], want.level)
	require.Contains(t, lines[0], want.text)
	require.NotContains(t, lines[0], "gx_test_1")
}

// hostileQuestions are responses to questions about grnt_1 of dev_1.
var hostileQuestions = []hostile{
	{"another grant", reply(200, activeGrant("grnt_2")), loud, invalid},
	{"no ID", reply(200, `{"developerId":"dev_1","status":"active"}`), loud, invalid},
	{"no status", reply(200, `{"grantId":"grnt_1","developerId":"dev_1"}`), loud, invalid},
	{"unknown status", reply(200, strings.ReplaceAll(activeGrant("grnt_1"), `"active"`, `"paused"`)), loud, "unknown status"},
	{"status in capitals", reply(200, strings.ReplaceAll(activeGrant("grnt_1"), `"active"`, `"REVOKED"`)), loud, "unknown status"},
	{"another account", reply(200, strings.ReplaceAll(activeGrant("grnt_1"), "dev_1", "dev_2")), loud, "another account"},
	{"two values", reply(200, activeGrant("grnt_1")+activeGrant("grnt_1")), loud, invalid},
	{"a list", reply(200, listOf([]string{"grnt_1"})), loud, invalid},
	{"not found, other code", apiError(404, "ROUTE_NOT_FOUND"), loud, "404 ROUTE_NOT_FOUND"},
	{"connection broken", broken(activeGrant("grnt_1")[:30]), loud, "unexpected EOF"},
}

// TestHostileQuestions checks that wrong answers about a grant end nothing and prove
// nothing.
func TestHostileQuestions(t *testing.T) {
	const id = "grnt_1"
	for _, tt := range append(hostileQuestions, hostileAnywhere...) {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := newWorld(t, grants.Options{NoStream: true, Every: -1, Log: log.log()})
				w.DeveloperID = "dev_1"
				w.Create(grantexhook.GrantCreated{GrantID: id})
				require.NoError(t, w.cache.Sync(t.Context()))
				w.run()
				var a audience
				a.join(t, w.cache, id)

				w.serve(tt.serve, id)
				w.requireStaleAfterMaxAge(&a, id)
				requireLoggedOnce(t, log.about("asking for a grant"), tt)
				require.Less(t, len(w.requests()), 100)

				w.serve(nil, id)
				time.Sleep(time.Minute)
				require.NoError(t, w.cache.Check(t.Context(), id))
				synctest.Wait()
				require.Len(t, log.about("INFO msg=\"grants: works again: asking"), 1)
			})
		})
	}
}

// TestMixedFailures checks that a problem is logged again only if it becomes one that
// needs attention.
func TestMixedFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		w := newWorld(t, grants.Options{NoStream: true, Log: log.log()})
		var calls atomic.Int64
		w.serve(func(rw http.ResponseWriter, r *http.Request) {
			if calls.Add(1)%2 == 1 {
				apiError(503, "UNAVAILABLE")(rw, r)
				return
			}
			apiError(401, "UNAUTHORIZED")(rw, r)
		}, "list")
		w.run()
		time.Sleep(20 * time.Minute)
		require.Greater(t, calls.Load(), int64(20))
		lines := log.about("listing")
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], warning)
		require.Contains(t, lines[1], loud)
	})
}

// TestListCutOff cuts a list off at each byte.
func TestListCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []string{"grnt_a", "grnt_b"}
		d, cache := newDesk(t, grants.Options{}, ids)
		require.NoError(t, cache.Sync(t.Context()))
		whole := listOf([]string{"grnt_a"})
		for n := range len(whole) {
			d.turn(says(0, 200, whole[:n]), nil)
			require.Error(t, cache.Sync(t.Context()), "%d bytes", n)
			for _, id := range ids {
				require.NoError(t, cache.Check(t.Context(), id), "%d bytes", n)
			}
		}
		d.turn(says(0, 200, whole), nil)
		require.NoError(t, cache.Sync(t.Context()))
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_b"), grants.ErrEnded)
		list, _ := d.questions()
		require.Empty(t, list)
	})
}

// TestAnswerCutOff cuts an answer off at each byte.
func TestAnswerCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := activeGrant("grnt_a")
		for n := range len(whole) {
			d, cache := newDesk(t, grants.Options{}, nil)
			d.turn(nil, says(0, 200, whole[:n]))
			require.ErrorIs(t, cache.Check(t.Context(), "grnt_a"), grants.ErrStale, "%d bytes", n)
		}
	})
}

// TestStrangeLists checks lists that are right but odd.
func TestStrangeLists(t *testing.T) {
	long := "grnt_" + strings.Repeat("x", hundredK)
	tests := []struct{ name, list string }{
		{"an ID twice", listOf([]string{"grnt_a", "grnt_a"})},
		{"an ID twice, once revoked", `{"grants":[` + strings.ReplaceAll(activeGrant("grnt_a"), `"active"`, `"revoked"`) + "," + activeGrant("grnt_a") + `]}`},
		{"an ID of 100 kB", listOf([]string{long, "grnt_a"})},
		{"other statuses", `{"grants":[` + strings.ReplaceAll(activeGrant("grnt_c"), `"active"`, `"paused"`) + "," + activeGrant("grnt_a") + `]}`},
		{"unknown fields", `{"total":1,"grants":[{"x":[{}],` + activeGrant("grnt_a")[1:] + `],"next":null}`},
		{"no account", strings.ReplaceAll(listOf([]string{"grnt_a"}), "developerId", "account")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, cache := newDesk(t, grants.Options{}, []string{"grnt_a", "grnt_b"})
				require.NoError(t, cache.Sync(t.Context()))
				d.turn(says(0, 200, tt.list), nil)
				require.NoError(t, cache.Sync(t.Context()))
				require.Equal(t, 1, cache.Status().Grants)
				require.NoError(t, cache.Check(t.Context(), "grnt_a"))
				require.ErrorIs(t, cache.Check(t.Context(), "grnt_b"), grants.ErrEnded)
				require.ErrorIs(t, cache.Check(t.Context(), long), grants.ErrEnded)
				list, _ := d.questions()
				require.Empty(t, list)
			})
		})
	}
}

// TestCompressedList checks that a proxy may compress the list.
func TestCompressedList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		w.serve(reply(200, gzipped(listOf(herdOf(1000))), "Content-Encoding", "gzip"), "list")
		require.NoError(t, w.cache.Sync(t.Context()))
		require.Equal(t, 1000, w.cache.Status().Grants)
	})
}

// TestLargeList checks a list of 100,000 grants, of which half end at once.
func TestLargeList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := herdOf(hundredK)
		told, largest := map[string]bool{}, 0
		d, cache := newDesk(t, grants.Options{Ended: func(_ context.Context, ids []string) error {
			largest = max(largest, len(ids))
			for _, id := range ids {
				if told[id] {
					return errors.New("told twice")
				}
				told[id] = true
			}
			return nil
		}}, ids)
		runUntilTheEnd(t, cache)
		require.NoError(t, cache.Sync(t.Context()))
		require.Equal(t, hundredK, cache.Status().Grants)
		d.turn(says(0, 200, listOf(ids[:hundredK/2])), nil)
		require.NoError(t, cache.Sync(t.Context()))
		synctest.Wait()
		status := cache.Status()
		require.Equal(t, hundredK/2, status.Grants)
		require.Zero(t, status.Untold)
		require.Len(t, told, hundredK/2)
		require.Equal(t, 1000, largest)
		for i := 0; i < hundredK; i += 999 {
			err := cache.Check(t.Context(), ids[i])
			require.Equal(t, i >= hundredK/2, errors.Is(err, grants.ErrEnded), cmp.Or(err, errors.New("active")))
		}
	})
}
