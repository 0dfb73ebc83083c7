package grantexapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
)

const keepalive = ": keepalive\n\n"

func sse(id string) string { return "data: " + body(id) + "\n\n" }

func body(id string) string {
	return fmt.Sprintf(`{"id":"%s","type":"grant.revoked","data":{"a":"<\u00e9>"}}`, id)
}

// stream sends each part at once, but sleeps for a duration. Then the stream ends.
func stream(parts ...any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, part := range parts {
			if d, ok := part.(time.Duration); ok {
				select {
				case <-time.After(d):
					continue
				case <-r.Context().Done():
					return
				}
			}
			io.WriteString(w, part.(string))
			http.NewResponseController(w).Flush()
		}
	}
}

// abort breaks off the connection.
func abort(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h(w, r)
		panic(http.ErrAbortHandler)
	}
}

func refuse(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

var tooMany = refuse(429, `{"message":"Too many connections","code":"TOO_MANY_CONNECTIONS"}`)

// A streams is an API in memory that handles each try with the next handler, and
// rejects the key after the last.
type streams struct {
	answers []http.HandlerFunc
	mu      sync.Mutex
	asked   []time.Time
	last    *http.Request
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	s.last = r
	n := len(s.asked)
	s.mu.Unlock()
	if n <= len(s.answers) {
		s.answers[n-1](w, r)
		return
	}
	refuse(http.StatusUnauthorized, `{"message":"Invalid API key","code":"UNAUTHORIZED"}`)(w, r)
}

func (s *streams) client(t *testing.T) *grantexapi.Client {
	return &grantexapi.Client{APIKey: apiKey, BaseURL: "http://pipe/base", HTTPClient: &http.Client{Transport: servePipes(t, s), Timeout: time.Second}}
}

func (s *streams) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// pauses returns the times between tries.
func (s *streams) pauses() (all []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range len(s.asked) - 1 {
		all = append(all, s.asked[i+1].Sub(s.asked[i]))
	}
	return all
}

// yields collects what Events yields, as "stands", bodies and errors.
func yields(t *testing.T, ctx context.Context, c *grantexapi.Client, types ...string) (all []string) {
	t.Helper()
	for body, err := range c.Events(ctx, types...) {
		if err != nil {
			require.Nil(t, body)
			require.NotContains(t, err.Error(), apiKey)
			all = append(all, err.Error())
			continue
		}
		if body == nil {
			all = append(all, "stands")
			continue
		}
		all = append(all, string(body))
	}
	return all
}

// TestEvents checks that events come byte for byte, as webhooks do, and that the last
// error ends the sequence.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &streams{answers: []http.HandlerFunc{
			stream(30*time.Second, keepalive, 30*time.Second, keepalive, sse("1"), time.Minute, keepalive, sse("2")+sse("3"),
				"data: hello\n\n", "data: {\"id\":\ndata: 4}\r\n\r\n"),
			stream(sse("5")),
		}}
		got := yields(t, t.Context(), s.client(t), "grant.revoked", "x.y")
		require.Len(t, got, 11)
		require.Equal(t, []string{"stands", body("1"), body("2"), body("3"), "hello", "{\"id\":\n4}"}, got[:6])
		require.Regexp(t, `^grantexapi: the stream ended; reconnecting in 1(\.\d)?s$`, got[6])
		require.Equal(t, []string{"stands", body("5")}, got[7:9])
		require.Regexp(t, `^grantexapi: the stream ended; reconnecting in [23](\.\d)?s$`, got[9])
		require.Equal(t, "grantexapi: the API returned 401 UNAUTHORIZED: Invalid API key", got[10])
		require.Equal(t, "/base/v1/events/stream?types=grant.revoked%2Cx.y", s.last.RequestURI)
		require.Equal(t, "Bearer "+apiKey, s.last.Header.Get("Authorization"))
		require.Equal(t, "text/event-stream", s.last.Header.Get("Accept"))
		require.Equal(t, "identity", s.last.Header.Get("Accept-Encoding"))
		require.True(t, s.last.Close)
	})
}

// TestEventsRecorded checks the bytes of real streams over real connections.
func TestEventsRecorded(t *testing.T) {
	const stands = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
	tests := []struct {
		name, file, before string
		want               int
	}{
		{"three types", "testdata/stream.http", "", 47},
		{"all types", "testdata/stream-all-types.txt", stands, 65},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			recorded, err := os.ReadFile(tt.file)
			require.NoError(t, err)
			want := []string{"stands"}
			for line := range bytes.Lines(recorded) {
				if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
					want = append(want, string(bytes.TrimSuffix(data, []byte("\n"))))
				}
			}
			require.Len(t, want, tt.want+1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var got []string
			for body, err := range newAPI(t, raw(tt.before+string(recorded))).client().Events(ctx) {
				switch {
				case err != nil:
					cancel()
				case body == nil:
					got = append(got, "stands")
				default:
					got = append(got, string(body))
				}
			}
			require.Equal(t, want, got)
		})
	}
}

// TestEventsInterrupted checks when Events connects again, and what it reports.
func TestEventsInterrupted(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		after  time.Duration // that the stream was lost
		wait   time.Duration // at least, and less than half as much again
		since  time.Duration // the beginning
		want   string
	}{
		{"ended", stream(keepalive, 10*time.Second, keepalive), 10 * time.Second, time.Second, 10 * time.Second, "the stream ended"},
		{"empty", stream(), 0, time.Second, 0, "the stream ended"},
		{"cut", abort(stream(keepalive, 10*time.Second)), 10 * time.Second, time.Second, 0, "reading the stream: unexpected EOF"},
		{"cut in an event", abort(stream(9*time.Second, keepalive, time.Second, "data: {")), 10 * time.Second, time.Second, 9 * time.Second,
			"reading the stream: unexpected EOF; it broke off in the middle of an event, which is lost"},
		{"silent from the beginning", stream(time.Hour), 90 * time.Second, time.Second, 0, "the stream was silent for 1m30s, without even a keepalive"},
		{"silent after the headers", stream("", time.Hour), 90 * time.Second, time.Second, 0, "the stream was silent for 1m30s, without even a keepalive"},
		{"silent later", stream(80*time.Second, keepalive, 80*time.Second, "data: {", time.Hour), 250 * time.Second, time.Second, 80 * time.Second,
			"the stream was silent for 1m30s, without even a keepalive; it broke off in the middle"},
		{"500", refuse(500, ""), 0, time.Second, 0, "the API returned 500: Internal Server Error"},
		{"503 with a Location", refuse(503, "", "Location", "/elsewhere"), 0, time.Second, 0, "the API returned 503: Service Unavailable"},
		{"408", refuse(408, ""), 0, time.Second, 0, "the API returned 408: Request Timeout"},
		{"425", refuse(425, ""), 0, time.Second, 0, "the API returned 425: Too Early"},
		{"page of a proxy", refuse(503, "<title>Sorry</title>"), 0, time.Second, 0, "the API returned 503: Sorry"},
		{"not a stream", refuse(200, "<html>", "Content-Type", "text/html"), 0, time.Second, 0,
			"GET /v1/events/stream: unexpected response (status 200, not an event stream); is Client.BaseURL right?"},
		{"no content", refuse(204, "", "Content-Type", "text/event-stream"), 0, time.Second, 0,
			"GET /v1/events/stream: unexpected response (status 204, not an event stream)"},
		{"asked to wait", refuse(429, `{"message":"Slow down"}`, "Retry-After", "59"), 0, 59 * time.Second, 0, "the API returned 429: Slow down"},
		{"asked not to wait", refuse(429, "", "Retry-After", "0"), 0, time.Second, 0, "the API returned 429: Too Many Requests"},
		{"asked to wait forever", refuse(503, "", "Retry-After", "99999999999999999"), 0, time.Hour, 0,
			"the API returned 503: Service Unavailable; reconnecting in 1h0m0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &streams{answers: []http.HandlerFunc{tt.answer}}
				start := time.Now()
				var interrupted *grantexapi.Interrupted
				for _, err := range s.client(t).Events(t.Context()) {
					if interrupted == nil && errors.As(err, &interrupted) {
						require.Equal(t, tt.after, time.Since(start))
					}
				}
				require.NotNil(t, interrupted)
				require.Equal(t, tt.since, interrupted.Since.Sub(start))
				require.Equal(t, tt.after+interrupted.Wait, s.pauses()[0])
				require.GreaterOrEqual(t, interrupted.Wait, tt.wait)
				require.Less(t, interrupted.Wait, tt.wait*3/2)
				require.True(t, strings.HasPrefix(interrupted.Error(), "grantexapi: "+tt.want), interrupted)
				require.ErrorContains(t, interrupted, "; reconnecting in ")
			})
		})
	}
}

// TestEventsSince checks that a gap begins with what came whole before the first of
// several interruptions, or before an event that is too large.
func TestEventsSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &streams{answers: []http.HandlerFunc{
			stream(10*time.Second, keepalive, 5*time.Second, "data: half of"),
			refuse(429, "", "Retry-After", "45"),
			stream(20*time.Second, keepalive, 10*time.Second, "data: x"+strings.Repeat("x", grantexapi.MaxEvent)+"\n\n"),
		}}
		start := time.Now()
		var since []time.Duration
		for _, err := range s.client(t).Events(t.Context()) {
			if i, ok := errors.AsType[*grantexapi.Interrupted](err); ok {
				since = append(since, i.Since.Sub(start).Round(5*time.Second))
			}
		}
		require.Equal(t, []time.Duration{10 * time.Second, 10 * time.Second, 80 * time.Second, 90 * time.Second}, since)
	})
}

// TestEventsSinceOfASlowLoop checks that what came while the loop was busy doesn't
// shorten the gap, since it's not known when it came.
func TestEventsSinceOfASlowLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &streams{answers: []http.HandlerFunc{stream(10*time.Second, keepalive, 10*time.Second, sse("1"), time.Second, sse("2"), sse("3"))}}
		start := time.Now()
		for body, err := range s.client(t).Events(t.Context()) {
			if body != nil {
				time.Sleep(time.Minute)
			}
			if i, ok := errors.AsType[*grantexapi.Interrupted](err); ok {
				require.Equal(t, 20*time.Second, i.Since.Sub(start))
				require.Equal(t, 200*time.Second, time.Since(start))
			}
		}
	})
}

// TestEventsBackoff checks that the waits grow up to a bound, and are short again only
// after a stream that lasted a minute.
func TestEventsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, brief := refuse(502, ""), stream(keepalive, sse("1"), 59*time.Second, keepalive)
		lasting := stream(keepalive, 60*time.Second, keepalive)
		s := &streams{answers: []http.HandlerFunc{down, brief, down, down, brief, down, down, lasting, down, brief}}
		yields(t, t.Context(), s.client(t))
		want := []time.Duration{1, 2 + 59, 4, 8, 16 + 59, 30, 30, 1 + 60, 2, 4 + 59}
		pauses := s.pauses()
		require.Len(t, pauses, len(want))
		for i, seconds := range want {
			require.GreaterOrEqual(t, pauses[i], seconds*time.Second, i)
			require.Less(t, pauses[i], seconds*time.Second+15*time.Second, i)
		}
		for i, least := range []time.Duration{1, 2 + 59, 4, 8, 16 + 59} {
			require.Less(t, pauses[i], least*time.Second*3/2, i)
		}
	})
}

// TestEventsBackoffBounds checks that the longest waits differ, and stay within bounds.
func TestEventsBackoffBounds(t *testing.T) {
	var longest []time.Duration
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := &streams{answers: slices.Repeat([]http.HandlerFunc{refuse(502, "")}, 8)}
			yields(t, t.Context(), s.client(t))
			longest = append(longest, s.pauses()[5:]...)
		})
	}
	require.GreaterOrEqual(t, slices.Min(longest), 30*time.Second)
	require.Less(t, slices.Max(longest), 45*time.Second)
	require.Greater(t, slices.Max(longest)-slices.Min(longest), 5*time.Second)
}

// TestEventsTooMany checks that no try comes while Grantex still counts the streams of
// a killed process, since each would start that time over.
func TestEventsTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &streams{answers: []http.HandlerFunc{tooMany, tooMany, stream(keepalive)}}
		got := yields(t, t.Context(), s.client(t))
		for _, pause := range s.pauses()[:2] {
			require.Greater(t, pause, 300*time.Second)
			require.Less(t, pause, 350*time.Second)
		}
		require.Regexp(t, `^grantexapi: the API returned 429 TOO_MANY_CONNECTIONS: Too many connections; `+
			`reconnecting in 5m\d+(\.\d)?s, since a try within 5m0s would only prolong this$`, got[0])
		require.Equal(t, "stands", got[2])
	})
}

// TestEventsRejectionWithoutEnd checks that a rejection counts even if its response doesn't
// end, and isn't taken for silence.
func TestEventsRejectionWithoutEnd(t *testing.T) {
	tests := []struct {
		name   string
		status int
		code   string
		wait   time.Duration // at least
		want   int           // what is yielded, with the end
	}{
		{"too many streams", 429, "TOO_MANY_CONNECTIONS", 301 * time.Second, 2},
		{"busy", 503, "UNAVAILABLE", time.Second, 2},
		{"wrong key", 401, "UNAUTHORIZED", 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &streams{answers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
					refuse(tt.status, `{"code":"`+tt.code+`"}`)(w, r)
					http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}}}
				start := time.Now()
				var first error
				n := 0
				for _, err := range s.client(t).Events(t.Context()) {
					if n++; n == 1 {
						first = err
						require.Equal(t, 90*time.Second, time.Since(start))
					}
				}
				requireRefused(t, first, tt.status, tt.code)
				require.Equal(t, tt.want, n)
				if len(s.pauses()) > 0 {
					require.GreaterOrEqual(t, s.pauses()[0], 90*time.Second+tt.wait)
				}
			})
		})
	}
}

// TestEventsRejected checks that the API's error can be found in an interruption.
func TestEventsRejected(t *testing.T) {
	for _, err := range newAPI(t, tooMany).client().Events(t.Context()) {
		requireRefused(t, err, 429, "TOO_MANY_CONNECTIONS")
		break
	}
}

// TestEventsEnd checks that Events reports once, and then ends, if a retry wouldn't
// help.
func TestEventsEnd(t *testing.T) {
	ok := stream(keepalive)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		change func(*grantexapi.Client)
		types  []string
		want   string
	}{
		{"wrong key", refuse(401, `{"message":"Invalid API key","code":"UNAUTHORIZED"}`), nil, nil, "the API returned 401 UNAUTHORIZED: Invalid API key"},
		{"plan", refuse(402, `{"message":"Plan limit","code":"PLAN_LIMIT_EXCEEDED"}`), nil, nil, "the API returned 402 PLAN_LIMIT_EXCEEDED: Plan limit"},
		{"forbidden", refuse(403, ""), nil, nil, "the API returned 403: Forbidden"},
		{"another API", refuse(404, `{"message":"Route not found"}`), nil, nil, "the API returned 404: Route not found"},
		{"wrong types", refuse(400, `{"message":"Invalid types"}`), nil, nil, "the API returned 400: Invalid types"},
		{"redirect", refuse(307, "", "Location", "http://other/elsewhere?x"), nil, nil, "the API returned 307: redirect to http://other, which is not followed"},
		{"300", refuse(300, ""), nil, nil, "the API returned 300: Multiple Choices"},
		{"no key", ok, func(c *grantexapi.Client) { c.APIKey = "" }, nil, "Client.APIKey is empty"},
		{"no URL", ok, func(c *grantexapi.Client) { c.BaseURL = "nowhere" }, nil, "Client.BaseURL must be"},
		{"empty type", ok, nil, []string{"grant.revoked", ""}, "an event type is empty"},
		{"space in a type", ok, nil, []string{"grant.revoked x.y"}, "an event type is empty or contains a comma or a space"},
		{"types in one", ok, nil, []string{"grant.revoked,x.y"}, "an event type is empty or contains a comma or a space; pass each type as a separate argument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &streams{answers: []http.HandlerFunc{tt.answer, ok, ok}}
				c := s.client(t)
				if tt.change != nil {
					tt.change(c)
				}
				got := yields(t, t.Context(), c, tt.types...)
				require.Len(t, got, 1)
				require.Contains(t, got[0], "grantexapi: "+tt.want)
				require.LessOrEqual(t, s.tries(), 1)
			})
		})
	}
}

// TestEventsEndWithTheirContext checks that the end of the context isn't an error, whenever
// it comes.
func TestEventsEndWithTheirContext(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   int // what was yielded before
	}{
		{"before the headers", stream(time.Hour), 0},
		{"within the stream", stream(keepalive, time.Hour), 1},
		{"before the next try", refuse(429, "", "Retry-After", "3600"), 1},
		{"within an event", stream(sse("1"), "data: {", time.Hour), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				s := &streams{answers: []http.HandlerFunc{tt.answer}}
				start := time.Now()
				require.Len(t, yields(t, ctx, s.client(t)), tt.want)
				require.Equal(t, 20*time.Second, time.Since(start))
				require.Equal(t, 1, s.tries())
			})
		})
	}
	t.Run("before the loop", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a := newAPI(t, stream(keepalive))
		require.Empty(t, yields(t, ctx, a.client()))
		require.Empty(t, a.lines())
	})
	t.Run("within the loop", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		for body := range newAPI(t, stream(sse("1")+sse("2")+sse("3"))).client().Events(ctx) {
			if got = append(got, string(body)); body != nil {
				cancel()
			}
		}
		require.Equal(t, []string{"", body("1")}, got)
	})
	t.Run("at an event that is too large", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := newAPI(t, stream("data: x"+strings.Repeat("x", grantexapi.MaxEvent)+"\n\n", sse("2")))
		var got []error
		for _, err := range a.client().Events(ctx) {
			if got = append(got, err); err != nil {
				cancel()
			}
		}
		require.Len(t, got, 2)
		require.ErrorContains(t, got[1], "skipped an event of")
	})
}

// TestEventsBreak checks that a loop that ends at any point doesn't leave a connection behind.
func TestEventsBreak(t *testing.T) {
	for n := range 4 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := 0
				counted := func(h http.HandlerFunc) http.HandlerFunc {
					return func(w http.ResponseWriter, r *http.Request) {
						open++
						defer func() { open-- }()
						h(w, r)
						<-r.Context().Done()
					}
				}
				s := &streams{answers: []http.HandlerFunc{refuse(503, ""), counted(stream(sse("1")+sse("2"), sse("3"), time.Hour))}}
				start, i := time.Now(), 0
				for range s.client(t).Events(t.Context()) {
					if i == n {
						break
					}
					i++
				}
				synctest.Wait()
				require.Equal(t, n, i)
				require.Zero(t, open)
				require.Less(t, time.Since(start), 2*time.Second)
			})
		})
	}
}

// TestEventsPanic checks that a panic in the loop leaves no connection behind.
func TestEventsPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		s := &streams{answers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			stream(keepalive, time.Hour)(w, r)
			ended = true
		}}}
		require.Panics(t, func() {
			for range s.client(t).Events(t.Context()) {
				panic("in the loop")
			}
		})
		synctest.Wait()
		require.True(t, ended)
	})
}

// TestEventsSlowLoop checks that the time a loop takes isn't taken for silence, and that
// no event is lost meanwhile.
func TestEventsSlowLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parts := []any{keepalive}
		for i := range 10 {
			parts = append(parts, sse(fmt.Sprint(i)), keepalive)
		}
		s := &streams{answers: []http.HandlerFunc{stream(parts...)}}
		n := 0
		for body, err := range s.client(t).Events(t.Context()) {
			time.Sleep(10 * time.Minute)
			if body != nil {
				n++
			}
			if err != nil {
				require.ErrorContains(t, err, "the stream ended; reconnecting")
				break
			}
		}
		require.Equal(t, 10, n)
	})
}

// TestEventsTooLarge checks that a large event is skipped, and the connection kept.
func TestEventsTooLarge(t *testing.T) {
	largest := strings.Repeat("x", grantexapi.MaxEvent)
	a := newAPI(t, stream(sse("1"), "data: "+largest+"\n\n", "data: x"+largest+"\n\n", sse("2")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := time.Now()
	var got []string
	for b, err := range a.client().Events(ctx) {
		if i, ok := errors.AsType[*grantexapi.Interrupted](err); ok && i.Wait == 0 {
			require.WithinRange(t, i.Since, start, time.Now())
		}
		switch {
		case err != nil:
			got = append(got, err.Error())
		case len(b) == len(largest):
			got = append(got, "largest")
		default:
			got = append(got, string(b))
		}
		if string(b) == body("2") {
			break
		}
	}
	require.Equal(t, []string{"", body("1"), "largest", "grantexapi: skipped an event of 1048577 bytes; the limit is 1048576", "", body("2")}, got)
	require.Len(t, a.lines(), 1)
}

// TestEventsMayBeKept checks that an event doesn't change when the next is read.
func TestEventsMayBeKept(t *testing.T) {
	var kept [][]byte
	for body, err := range newAPI(t, stream(sse("1")+sse("2")+sse("3"))).client().Events(t.Context()) {
		if err != nil {
			break
		}
		kept = append(kept, body)
	}
	require.Equal(t, [][]byte{nil, []byte(body("1")), []byte(body("2")), []byte(body("3"))}, kept)
}

// TestEventsTwice checks that each loop over one sequence opens a stream.
func TestEventsTwice(t *testing.T) {
	a := newAPI(t, stream(sse("1")), stream(sse("2")))
	events := a.client().Events(t.Context())
	for _, want := range []string{body("1"), body("2")} {
		for b := range events {
			if b != nil {
				require.Equal(t, want, string(b))
				break
			}
		}
	}
	require.Equal(t, []string{"GET /v1/events/stream", "GET /v1/events/stream"}, a.lines())
}

// TestEventsConnections checks that a stream's connection ends with the loop, and that
// the next stream has a new one, since an old one may be dead without a sign.
func TestEventsConnections(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", h2), func(t *testing.T) {
			addrs := make(chan string, 3)
			closed := make(chan string, 3)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/webhooks" {
					says(200, `{"webhooks":[]}`)(w, r)
					return
				}
				addrs <- r.RemoteAddr
				stream(keepalive, time.Hour)(w, r)
			}))
			s.EnableHTTP2 = h2
			s.Config.ConnState = func(c net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed <- c.RemoteAddr().String()
				}
			}
			s.StartTLS()
			t.Cleanup(s.Close)
			c := &grantexapi.Client{APIKey: apiKey, BaseURL: s.URL, HTTPClient: s.Client()}
			require.NoError(t, list(t.Context(), c), "a connection to be kept")
			seen := map[string]bool{}
			for range 3 {
				for _, err := range c.Events(t.Context()) {
					require.NoError(t, err)
					break
				}
				addr := within(t, addrs)
				require.Equal(t, addr, within(t, closed))
				seen[addr] = true
			}
			require.Len(t, seen, 3)
		})
	}
}

// TestEventsCloseRejections checks that the body of every response is closed, and that the
// context of every request ends.
func TestEventsCloseRejections(t *testing.T) {
	tests := []struct {
		name   string
		status int
		kind   string
		body   string
	}{
		{"stream", 200, "text/event-stream", keepalive},
		{"cut stream", 200, "text/event-stream", "data: {"},
		{"not a stream", 200, "text/html", "<html>"},
		{"other protocol", 101, "", ""},
		{"rejected", 401, "application/json", "{}"},
		{"busy", 503, "text/html", ""},
		{"redirect", 307, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer := &closing{Reader: strings.NewReader(tt.body)}
			var asked context.Context
			c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				asked = r.Context()
				return &http.Response{StatusCode: tt.status, Header: http.Header{"Content-Type": {tt.kind}}, Body: answer, Request: r}, nil
			})}}
			for _, err := range c.Events(t.Context()) {
				if err != nil {
					break
				}
			}
			require.True(t, answer.closed)
			require.ErrorIs(t, asked.Err(), context.Canceled)
		})
	}
}

func TestEventsReadRejectionsThroughALimit(t *testing.T) {
	body := &io.LimitedReader{R: new(endless), N: 4 << 20}
	c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Body: io.NopCloser(body)}, nil
	})}}
	for _, err := range c.Events(t.Context()) {
		requireRefused(t, err, 503, "")
		break
	}
	require.EqualValues(t, 3<<20, body.N)
}

// TestClientBoundsHeaders checks that a host can't send headers without end.
func TestClientBoundsHeaders(t *testing.T) {
	ended := make(chan int, 2)
	a := newAPI(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		lines := 0
		for ; err == nil && lines < 16<<10; lines++ {
			_, err = io.WriteString(conn, "X-A: "+strings.Repeat("a", 4096)+"\r\n")
		}
		ended <- lines
	}))
	require.ErrorContains(t, list(t.Context(), a.client()), "headers exceeded 65536 bytes")
	for _, err := range a.client().Events(t.Context()) {
		require.ErrorContains(t, err, "headers exceeded 65536 bytes")
		break
	}
	require.Less(t, <-ended, 16<<10)
	require.Less(t, <-ended, 16<<10)
}
