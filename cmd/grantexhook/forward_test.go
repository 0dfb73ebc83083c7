package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// A streamAPI has one response for each connection to the event stream. After the
// last it rejects the key.
type streamAPI struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []time.Time
}

func (s *streamAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	n := len(s.asked) - 1
	s.mu.Unlock()
	if r.Method != http.MethodGet || r.URL.Path != "/base/v1/events/stream" ||
		r.Header.Get("Authorization") != "Bearer "+testKey || r.Header.Get("Accept") != "text/event-stream" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if n >= len(s.answers) {
		refuse(http.StatusUnauthorized, `{"message":"Invalid API key","code":"UNAUTHORIZED","requestId":"1"}`)(w, r)
		return
	}
	s.answers[n](w, r)
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

// stream sends the parts, and sleeps where a part is a duration. Then the stream
// ends.
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

// cut breaks off the connection.
func cut(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h(w, r)
		panic(http.ErrAbortHandler)
	}
}

func sse(id, eventType string) string { return "data: " + body(id, eventType) + "\n\n" }

func body(id, eventType string) string {
	return fmt.Sprintf(`{"id":"%s","type":"%s","data":{"a":"<\u00e9>"}}`, id, eventType)
}

const keepalive = ": keepalive\n\n"

// forward runs the command in a bubble until the API rejects it or ctx ends.
func forward(t *testing.T, ctx context.Context, api, receiver http.Handler, args ...string) result {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("api.test/", api)
	mux.Handle("receiver.test/", receiver)
	s := session{dial: serveMemory(t, mux), env: map[string]string{
		"GRANTEX_WEBHOOK_SECRET": testSecret, "GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test/base/",
	}}
	r := s.run(ctx, append(append([]string{"forward"}, args...), "http://receiver.test/hook")...)
	require.NotContains(t, r.stdout+r.stderr, testSecret)
	require.NotContains(t, r.stdout+r.stderr, testKey)
	return r
}

// TestForward checks that events are delivered byte for byte, with new signatures.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, err := grantexhook.NewVerifier(testSecret, &grantexhook.Options{RequireTimestamp: true, Tolerance: time.Second})
		require.NoError(t, err)
		rec := &receiver{}
		api := &streamAPI{answers: []http.HandlerFunc{stream(
			30*time.Second, keepalive, 30*time.Second, keepalive, sse("evt_1", "grant.created"), time.Hour/60, keepalive,
			sse("evt_2", "token.issued")+sse("evt_3", "grant.revoked"),
			sse("evt_4", "agent.created"), "data: hello\n\n", "data: {\"id\":\"evt_5\",\ndata: \"type\":\"grant.revoked\"}\n\n", time.Second,
		)}}
		r := forward(t, t.Context(), api, v.Middleware(rec))
		require.Equal(t, exitFailed, r.status, "the key is rejected in the end")
		lines := "{\"id\":\"evt_5\",\n\"type\":\"grant.revoked\"}"
		require.ElementsMatch(t, []string{body("evt_1", "grant.created"), body("evt_2", "token.issued"), body("evt_3", "grant.revoked"), lines}, rec.bodies)
		require.Equal(t, 4, strings.Count(r.stdout, "200 delivered"))
		require.Contains(t, r.stderr, "forwarding grant.created, grant.revoked, token.issued to http://receiver.test/hook\nconnected\n")
		require.Contains(t, r.stderr, "skipped a message of 5 bytes in the stream that is not an event\n")
		require.Contains(t, r.stderr, "the stream ended; reconnecting in 1")
		require.Contains(t, r.stderr, "4 of 4 events delivered\n"+
			"grantexhook: the API returned 401 UNAUTHORIZED: Invalid API key (request 1)\nhint: check GRANTEX_API_KEY")
	})
}

func TestForwardTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &receiver{}
		var asked string
		api := &streamAPI{answers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.Query().Get("types")
			stream(sse("evt_1", "grant.created"), sse("evt_2", "x.y"), sse("evt_3", "token.issued"), time.Second)(w, r)
		}}}
		r := forward(t, t.Context(), api, rec, "-json", "-types", "token.issued, x.y")
		require.Equal(t, "token.issued,x.y", asked)
		require.ElementsMatch(t, []string{body("evt_2", "x.y"), body("evt_3", "token.issued")}, rec.bodies)
		lines := slices.Sorted(strings.Lines(r.stdout))
		require.Equal(t, []string{
			`{"eventId":"evt_2","eventType":"x.y","attempt":1,"delivered":true,"status":200,"milliseconds":0}` + "\n",
			`{"eventId":"evt_3","eventType":"token.issued","attempt":1,"delivered":true,"status":200,"milliseconds":0}` + "\n",
		}, lines)
	})
}

// TestForwardOddArguments checks that arguments are shown without characters that a
// terminal acts on.
func TestForwardOddArguments(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s := withSecret()
	s.env["GRANTEX_API_KEY"] = testKey
	r := s.run(ctx, "forward", "-types", "x.\x1b,\x9b", "http://h/\u202e")
	require.Equal(t, exitDone, r.status)
	require.Equal(t, `forwarding "x.\x1b, \x9b" to http://h/%E2%80%AE`+"\n0 of 0 events delivered\n", r.stderr)
}

// recordedStream returns the real stream, and the bodies of its events.
func recordedStream(t testing.TB) (raw []byte, bodies []string) {
	t.Helper()
	raw, err := os.ReadFile("../../grantexapi/testdata/stream.http")
	require.NoError(t, err)
	for line := range bytes.Lines(raw) {
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			bodies = append(bodies, string(bytes.TrimSuffix(data, []byte("\n"))))
		}
	}
	require.Len(t, bodies, 47)
	return raw, bodies
}

// TestForwardTheRecordedStream sends the bytes of the real stream over a real
// connection, which breaks where the recording ends.
func TestForwardTheRecordedStream(t *testing.T) {
	raw, want := recordedStream(t)
	l, err := listenOn("127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		answers := []string{string(raw), "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"}
		for _, answer := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			io.WriteString(c, answer)
			c.Close()
		}
	}()
	r := listen(t, testSecret, "-json")
	s := session{env: map[string]string{"GRANTEX_WEBHOOK_SECRET": testSecret, "GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://" + l.Addr().String()}}
	got := s.run(t.Context(), "forward", "-json", r.url)
	require.Equal(t, exitFailed, got.status, got)
	require.Contains(t, got.stderr, "unexpected EOF; reconnecting in ")
	require.Contains(t, got.stderr, "grantexhook: the API returned 403: Forbidden\nhint: check GRANTEX_API_KEY")
	require.Contains(t, got.stderr, fmt.Sprintf("%[1]d of %[1]d events delivered\n", len(want)))
	r.end(t)
	require.ElementsMatch(t, want, strings.Split(strings.TrimSpace(r.stdout.String()), "\n"))
}

// TestForwardConnectsAgain checks the waits, and the report of the gap.
func TestForwardConnectsAgain(t *testing.T) {
	const sec = time.Second
	tests := []struct {
		name   string
		answer http.HandlerFunc
		wait   time.Duration // from the first connection to the second
		most   time.Duration // that is added to it at random
		want   string
	}{
		{"ended", stream(keepalive, 10*sec), 11 * sec, sec / 2, "the stream ended; reconnecting in 1"},
		{"cut", cut(stream(keepalive, 10*sec)), 11 * sec, sec / 2, "unexpected EOF; reconnecting in 1"},
		{"cut in an event", cut(stream(keepalive, "data: {", 10*sec)), 11 * sec, sec / 2, "broke off in the middle of an event, which is lost"},
		{"silent from the beginning", stream(time.Hour), 91 * sec, sec / 2, "the stream was silent for 1m30s, without even a keepalive; reconnecting in 1"},
		{"silent later", stream(80*sec, keepalive, 80*sec, keepalive, time.Hour), 251 * sec, sec / 2, "the stream was silent for 1m30s"},
		{"500", refuse(500, ""), sec, sec / 2, "the API returned 500: Internal Server Error; reconnecting in 1"},
		{"503 with a Location", refuse(503, "", "Location", "http://receiver.test/x"), sec, sec / 2, "503: Service Unavailable; reconnecting in 1"},
		{"408", refuse(408, ""), sec, sec / 2, "the API returned 408: Request Timeout; reconnecting in 1"},
		{"out of order", refuse(503, "<title>Sorry</title>"), sec, sec / 2, "the API returned 503: Sorry; reconnecting in 1"},
		{"asked to wait", refuse(429, `{"message":"Slow down"}`, "Retry-After", "59"), 59 * sec, 0, "429: Slow down; reconnecting in 59s"},
		{"asked to wait forever", refuse(503, "", "Retry-After", "99999999999999999"), time.Hour, 0, "reconnecting in 1h0m0s"},
		{"asked not to wait", refuse(429, "", "Retry-After", "0"), sec, sec / 2, "429"},
		{"too many streams", refuse(429, `{"code":"TOO_MANY_CONNECTIONS"}`), 301 * sec, sec / 2, "s, since a try within 5m0s would only prolong this"},
		{"not a stream", refuse(200, "<html>"), sec, sec / 2, "not an event stream); is GRANTEX_URL right?; reconnecting in 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &streamAPI{answers: []http.HandlerFunc{tt.answer, stream(30*time.Second, keepalive)}}
				r := forward(t, t.Context(), api, &receiver{})
				require.Equal(t, exitFailed, r.status)
				require.Len(t, api.asked, 3)
				gap := api.asked[1].Sub(api.asked[0])
				require.GreaterOrEqual(t, gap, tt.wait)
				require.LessOrEqual(t, gap, tt.wait+tt.most)
				require.Contains(t, r.stderr, tt.want)
				require.Regexp(t, `reconnected; events between \d\d:\d\d:\d\d and \d\d:\d\d:\d\d UTC \([0-9hms]+\) may be missing\n`, r.stderr)
			})
		})
	}
}

// TestForwardGap checks that the gap begins with the last event or keepalive before
// the break, and ends with the first after it.
func TestForwardGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &streamAPI{answers: []http.HandlerFunc{
			stream(10*time.Second, keepalive, 5*time.Second, "data: half of"),
			refuse(429, "", "Retry-After", "45"),
			stream(20*time.Second, keepalive),
		}}
		r := forward(t, t.Context(), api, &receiver{})
		require.Regexp(t, `events between 00:00:10 and 00:01:2[12] UTC \(1m1[12]s\) may be missing`, r.stderr)
	})
}

func TestForwardEnds(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"wrong key", refuse(401, `{"message":"Invalid API key","code":"UNAUTHORIZED"}`), "401 UNAUTHORIZED: Invalid API key\nhint: check GRANTEX_API_KEY"},
		{"plan", refuse(402, `{"message":"Plan limit reached","code":"PLAN_LIMIT_EXCEEDED"}`), "the API returned 402 PLAN_LIMIT_EXCEEDED: Plan limit reached"},
		{"forbidden", refuse(403, ""), "the API returned 403: Forbidden"},
		{"another API", refuse(404, `{"message":"Route not found"}`), "the API returned 404: Route not found"},
		{"redirect", refuse(307, "", "Location", "http://receiver.test/elsewhere?x"), "307: redirect to http://receiver.test, which is not followed"},
		{"300", refuse(300, "", "Location", "http://receiver.test/elsewhere"), "the API returned 300: redirect to http://receiver.test, which is not followed"},
		{"300 without a Location", refuse(300, ""), "the API returned 300: Multiple Choices"},
		{"wrong types", refuse(400, `{"message":"Invalid types"}`), "the API returned 400: Invalid types"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, rec := &streamAPI{answers: []http.HandlerFunc{tt.answer}}, &receiver{}
				r := forward(t, t.Context(), api, rec)
				require.Equal(t, exitFailed, r.status)
				require.Contains(t, r.stderr, tt.want)
				require.Len(t, api.asked, 1)
				require.Empty(t, rec.bodies)
			})
		})
	}
}

func TestForwardWithoutAnAPI(t *testing.T) {
	s := withSecret()
	s.env["GRANTEX_API_KEY"], s.env["GRANTEX_URL"] = testKey, "api.test"
	r := s.run(t.Context(), "forward", "http://receiver.test")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.stderr, "grantexhook: GRANTEX_URL must be an http or https URL")
}

func TestForwardLargeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const head, tail = `{"id":"evt_1","type":"grant.created","data":{"a":"`, `"}}`
		largest := head + strings.Repeat("x", 1<<20-len(head)-len(tail)) + tail
		rec := &receiver{}
		api := &streamAPI{answers: []http.HandlerFunc{stream("data: "+largest+"\n\n", "data:  "+largest+"\n\n", sse("evt_2", "grant.created"), time.Second)}}
		r := forward(t, t.Context(), api, rec)
		require.Contains(t, r.stderr, "skipped an event of 1048577 bytes; the limit is 1048576\n")
		require.Contains(t, r.stderr, "2 of 3 events delivered\n")
		require.Equal(t, 1, strings.Count(r.stderr, "connected\n"), "it stays connected")
		require.ElementsMatch(t, []string{largest, body("evt_2", "grant.created")}, rec.bodies)
	})
}

// TestForwardRetries checks that an event is retried while others arrive, and after
// the stream has ended.
func TestForwardRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		attempts := map[string]int{}
		receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var e head
			require.NoError(t, json.NewDecoder(r.Body).Decode(&e))
			mu.Lock()
			defer mu.Unlock()
			attempts[e.ID]++
			if e.ID == "evt_1" && attempts[e.ID] < 3 || e.ID == "evt_3" {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		api := &streamAPI{answers: []http.HandlerFunc{stream(sse("evt_1", "grant.created"), sse("evt_2", "grant.created"), sse("evt_3", "grant.created"))}}
		start := time.Now()
		r := forward(t, t.Context(), api, receiver, "-retry")
		require.Equal(t, map[string]int{"evt_1": 3, "evt_2": 1, "evt_3": 5}, attempts)
		require.Equal(t, 570*time.Second, time.Since(start))
		require.Contains(t, r.stderr, "2 deliveries are still in flight\n")
		require.Contains(t, r.stderr, "2 of 3 events delivered\n")
	})
}

// TestForwardSlowReceiver checks that a slow receiver makes the stream wait, that
// the wait doesn't count as silence, and that every event arrives.
func TestForwardSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, all := 0, 0, 0
		receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			mu.Lock()
			now++
			most = max(most, now)
			all++
			mu.Unlock()
			time.Sleep(9 * time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		})
		const events = 11 * maxInFlight // 99 seconds
		var parts []any
		for i := range events {
			parts = append(parts, sse(fmt.Sprint("evt_", i), "grant.created"))
		}
		api := &streamAPI{answers: []http.HandlerFunc{stream(append(parts, keepalive, time.Second)...)}}
		r := forward(t, t.Context(), api, receiver)
		require.Equal(t, maxInFlight, most)
		require.Equal(t, events, all)
		require.Contains(t, r.stderr, "64 deliveries are in flight; reading the stream pauses until one ends\n")
		require.Contains(t, r.stderr, fmt.Sprintf("%[1]d of %[1]d events delivered\n", events))
		require.NotContains(t, r.stderr, "nothing came")
	})
}

// TestForwardInterrupted checks that an interrupt at any time ends the command with
// status 0.
func TestForwardInterrupted(t *testing.T) {
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	tooMany := strings.Repeat(sse("evt_1", "grant.created"), maxInFlight+2)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"before the headers", stream(time.Hour), "0 of 0 events delivered"},
		{"within the stream", stream(keepalive, time.Hour), "0 of 0 events delivered"},
		{"before reconnecting", refuse(429, "", "Retry-After", "3600"), "0 of 0 events delivered"},
		{"within a delivery", stream(17*time.Second, sse("evt_1", "grant.created"), time.Hour), "0 of 1 events delivered"},
		{"with too many deliveries", stream(17*time.Second, tooMany, time.Hour), "0 of 6[56] events delivered"}, // whether the last was read is chance
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				r := forward(t, ctx, &streamAPI{answers: []http.HandlerFunc{tt.answer}}, hang)
				require.Equal(t, exitDone, r.status)
				require.Equal(t, 20*time.Second, time.Since(start))
				require.Regexp(t, tt.want, r.stderr)
			})
		})
	}
}
