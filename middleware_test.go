package grantexhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

// A spy is the handler behind the middleware. It keeps the last request and its body.
type spy struct {
	mu    sync.Mutex
	calls int
	r     *http.Request
	body  []byte
	err   error
}

func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.r = r
	s.body, s.err = io.ReadAll(r.Body)
	s.err = errors.Join(s.err, r.Body.Close())
}

// A refusal is one call of Options.Refused.
type refusal struct {
	reason string
	err    error
}

// A receiver is a spy behind the middleware, with the log and the refusals.
type receiver struct {
	http.Handler
	spy     spy
	log     bytes.Buffer
	refused []refusal
}

func newReceiver(t testing.TB, secret string, opts grantexhook.Options) *receiver {
	t.Helper()
	rec := new(receiver)
	opts.Log = slog.New(slog.NewTextHandler(&rec.log, nil))
	opts.Refused = func(r *http.Request, reason string, err error) {
		rec.refused = append(rec.refused, refusal{reason, err})
	}
	rec.Handler = newVerifier(t, secret, &opts).Middleware(&rec.spy)
	return rec
}

func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// chunked returns a reader whose length an http.Client doesn't know.
func chunked(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) }

func newPost(t testing.TB, url string, h http.Header, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	require.NoError(t, err)
	r.Header = h
	return r
}

func TestMiddlewareCaptures(t *testing.T) {
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			rec := newReceiver(t, c.Secret, grantexhook.Options{RequireTimestamp: true, Tolerance: anyAge})
			srv := httptest.NewServer(rec)
			defer srv.Close()
			addr := srv.Listener.Addr().String()

			require.Equal(t, http.StatusOK, send(t, addr, c.Wire()))
			require.NoError(t, rec.spy.err)
			require.Equal(t, c.Body, rec.spy.body)
			require.EqualValues(t, len(c.Body), rec.spy.r.ContentLength)
			require.Empty(t, rec.spy.r.TransferEncoding)

			for _, part := range []string{
				c.EventID, // in the body
				c.Header().Get(grantexhook.HeaderSignatureV2)[7:],
				c.Header().Get(grantexhook.HeaderTimestamp),
			} {
				forged := bytes.Replace(c.Wire(), []byte(part), flip([]byte(part), 0), 1)
				require.Equal(t, http.StatusUnauthorized, send(t, addr, forged), part)
			}
			require.Equal(t, 1, rec.spy.calls)
			require.Len(t, rec.refused, 3)
		})
	}
}

func TestMiddlewareVerification(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name   string
		header http.Header
		want   grantexhook.Verification
	}{
		{"current secret", signed(secret, now), grantexhook.Verification{SecretIndex: 0, SentAt: time.Unix(now.Unix(), 0)}},
		{"previous secret", signed(previousSecret, now), grantexhook.Verification{SecretIndex: 1, SentAt: time.Unix(now.Unix(), 0)}},
		{"secret before that", signed(otherSecret, now), grantexhook.Verification{SecretIndex: 2, SentAt: time.Unix(now.Unix(), 0)}},
		{"legacy", legacy(previousSecret), grantexhook.Verification{SecretIndex: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rec := newReceiver(t, secret, grantexhook.Options{PreviousSecrets: []string{previousSecret, otherSecret}})
			rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", test.header, bytes.NewReader(payload)))
			require.Equal(t, 1, rec.spy.calls)
			got, ok := grantexhook.VerificationFrom(rec.spy.r.Context())
			require.True(t, ok)
			require.Equal(t, test.want, got)
		})
	}
	got, ok := grantexhook.VerificationFrom(context.Background())
	require.False(t, ok)
	require.Zero(t, got)
}

// failing is a body that breaks off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestMiddlewareRejects(t *testing.T) {
	now := time.Now()
	large := bytes.Repeat([]byte("a"), 1001)
	tests := []struct {
		name   string
		header http.Header
		body   io.Reader
		status int
		reason string
		err    error
	}{
		{"no signature", http.Header{}, bytes.NewReader(payload), 401, grantexhook.ReasonNoSignature, grantexhook.ErrNoSignature},
		{
			"malformed signature", with(signed(secret, now), grantexhook.HeaderSignatureV2, "sha256=00"), bytes.NewReader(payload),
			401, grantexhook.ReasonBadSignature, grantexhook.ErrBadSignature,
		},
		{"another secret", signed(otherSecret, now), bytes.NewReader(payload), 401, grantexhook.ReasonBadSignature, grantexhook.ErrBadSignature},
		{"another body", signed(secret, now), strings.NewReader("{}"), 401, grantexhook.ReasonBadSignature, grantexhook.ErrBadSignature},
		{"no body", signed(secret, now), http.NoBody, 401, grantexhook.ReasonBadSignature, grantexhook.ErrBadSignature},
		{"stale", signed(secret, now.Add(-time.Hour)), bytes.NewReader(payload), 401, grantexhook.ReasonStale, grantexhook.ErrStale},
		{"declared too large", signed(secret, now), bytes.NewReader(large), 413, grantexhook.ReasonTooLarge, nil},
		{"too large", signed(secret, now), chunked(large), 413, grantexhook.ReasonTooLarge, nil},
		{
			"breaks off", signed(secret, now), io.MultiReader(bytes.NewReader(payload), failing{io.ErrUnexpectedEOF}),
			400, grantexhook.ReasonUnreadable, io.ErrUnexpectedEOF,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rec := newReceiver(t, secret, grantexhook.Options{MaxBody: 1000})
			w := httptest.NewRecorder()
			rec.ServeHTTP(w, newPost(t, "/", test.header, test.body))

			require.Equal(t, test.status, w.Code)
			require.Equal(t, http.StatusText(test.status)+"\n", w.Body.String())
			require.Equal(t, test.status == http.StatusUnauthorized, w.Result().Header.Get("WWW-Authenticate") != "")
			require.Equal(t, "close", w.Result().Header.Get("Connection"), "a recorder doesn't support deadlines")
			require.Zero(t, rec.spy.calls)

			require.Len(t, rec.refused, 1)
			require.Equal(t, test.reason, rec.refused[0].reason)
			if test.err != nil {
				require.ErrorIs(t, rec.refused[0].err, test.err)
			}
			require.Contains(t, rec.log.String(), "level=WARN")
			require.Contains(t, rec.log.String(), "reason="+test.reason)
			right := signed(secret, now).Get(grantexhook.HeaderSignatureV2)
			for _, hidden := range []string{secret, "grnt_1", test.header.Get(grantexhook.HeaderSignature), right} {
				if hidden != "" {
					require.NotContains(t, rec.log.String(), hidden)
				}
			}
		})
	}
}

// TestMiddlewareRejectsByTheHeadersAlone checks that the body isn't read if the
// headers already rule the request out, and that the log says why.
func TestMiddlewareRejectsByTheHeadersAlone(t *testing.T) {
	now := time.Now()
	const sig, v2, ts = grantexhook.HeaderSignature, grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp
	right := signed(secret, now)
	tests := []struct {
		name   string
		header http.Header
		length int64
		status int
		want   string
	}{
		{"no signature", http.Header{}, -1, 401, "no signature"},
		{"legacy alone", legacy(secret), -1, 401, "no signature: RequireTimestamp is set, but there is only X-Grantex-Signature"},
		{"legacy twice", with(signed(secret, now), sig, right[sig][0], right[sig][0]), -1, 401, "bad signature: a signature header was sent more than once"},
		{"V2 twice", with(signed(secret, now), v2, right[v2][0], right[v2][0]), -1, 401, "bad signature: a signature header was sent more than once"},
		{"timestamp twice", with(signed(secret, now), ts, right[ts][0], right[ts][0]), -1, 401, "bad signature: a signature header was sent more than once"},
		{"V2 malformed", with(signed(secret, now), v2, "x"), -1, 401, "bad signature: X-Grantex-Signature-V2 is malformed"},
		{"V2 without timestamp", without(signed(secret, now), ts), -1, 401, "bad signature: X-Grantex-Signature-V2 without X-Grantex-Timestamp"},
		{"timestamp malformed", with(signed(secret, now), ts, "x"), -1, 401, "bad signature: X-Grantex-Timestamp is malformed"},
		{"stale", with(signed(secret, now), ts, "0"), -1, 401, "timestamp outside the tolerance of 300 s: it's "},
		{"V2 not canonical", with(legacy(secret), strings.ToLower(v2), "x"), -1, 401, "bad signature: a signature header is not in canonical form"},
		{"only a V2 that isn't canonical", with(http.Header{}, strings.ToLower(v2), "x"), -1, 401, "no signature: a signature header is not in canonical form"},
		{"declared too large", signed(secret, now), grantexhook.DefaultMaxBody + 1, 413, "reading the body: http: request body too large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rec := newReceiver(t, secret, grantexhook.Options{RequireTimestamp: true})
			r := newPost(t, "/", test.header, failing{errors.New("the body was read")})
			r.ContentLength = test.length
			w := httptest.NewRecorder()
			rec.ServeHTTP(w, r) // a recorder doesn't support deadlines, so the body isn't drained
			require.Equal(t, test.status, w.Code)
			require.ErrorContains(t, rec.refused[0].err, "grantexhook: "+test.want)
		})
	}

	rec := newReceiver(t, secret, grantexhook.Options{})
	rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", with(legacy(secret), sig, "x"), failing{errors.New("the body was read")}))
	require.ErrorContains(t, rec.refused[0].err, "bad signature: X-Grantex-Signature is malformed")
}

// TestMiddlewareLogsARejection checks the whole log line and the whole response.
func TestMiddlewareLogsARejection(t *testing.T) {
	long := strings.Repeat("é", 300)
	for path, want := range map[string]string{
		"/hook?token=hidden":         "/hook",
		"/":                          "/",
		"/%0Alevel=ERROR":            `"/\nlevel=ERROR"`,
		"/" + long + "?token=hidden": "/" + long[:2*199],
	} {
		rec := newReceiver(t, secret, grantexhook.Options{})
		r := newPost(t, path, http.Header{}, http.NoBody)
		r.RemoteAddr = "192.0.2.1:1234"
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, r)

		_, line, ok := strings.Cut(rec.log.String(), " ")
		require.True(t, ok)
		require.Equal(t, `level=WARN msg="grantexhook: request rejected" status=401 reason=no_signature `+
			`error="grantexhook: no signature" remote=192.0.2.1:1234 path=`+want+"\n", line)
		require.Equal(t, "Grantex-Signature", w.Header().Get("WWW-Authenticate"))
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	}
	rec := newReceiver(t, secret, grantexhook.Options{})
	rec.ServeHTTP(httptest.NewRecorder(), &http.Request{Method: http.MethodPost})
	require.Contains(t, rec.log.String(), `path=""`)
}

// TestMiddlewareNilBody checks that a nil Body, as in a request made for a client,
// counts as an empty one.
func TestMiddlewareNilBody(t *testing.T) {
	h := http.Header{}
	grantexhook.Sign(h, secret, nil, time.Now())
	for name, test := range map[string]struct {
		header http.Header
		want   int
	}{"signed": {h, 200}, "signed with a body": {signed(secret, time.Now()), 401}, "unsigned": {http.Header{}, 401}} {
		t.Run(name, func(t *testing.T) {
			for _, w := range []http.ResponseWriter{httptest.NewRecorder(), &deadlines{ResponseRecorder: httptest.NewRecorder()}} {
				rec := newReceiver(t, secret, grantexhook.Options{})
				r := newPost(t, "/", test.header, nil)
				require.Nil(t, r.Body)
				rec.ServeHTTP(w, r)
				require.Nil(t, r.Body, "the caller's request")
				require.Equal(t, test.want == 200, rec.spy.calls == 1)
				require.NoError(t, rec.spy.err)
				require.Empty(t, rec.spy.body)
			}
		})
	}
}

// deadlines is a recorder that supports them, like the ResponseWriter of a Server.
type deadlines struct{ *httptest.ResponseRecorder }

func (*deadlines) SetReadDeadline(time.Time) error { return nil }

// TestMiddlewareNeverSaysWhy checks that every 401 looks the same to the sender.
func TestMiddlewareNeverSaysWhy(t *testing.T) {
	rec := newReceiver(t, secret, grantexhook.Options{})
	var first http.Header
	now := time.Now()
	malformed := with(legacy(secret), grantexhook.HeaderSignature, "x")
	for _, h := range []http.Header{{}, signed(otherSecret, now), signed(secret, now.Add(-time.Hour)), malformed} {
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, newPost(t, "/", h, bytes.NewReader(payload)))
		require.Equal(t, "Unauthorized\n", w.Body.String())
		if first == nil {
			first = w.Header()
		}
		require.Equal(t, first, w.Header())
	}
}

func TestMiddlewareMaxBody(t *testing.T) {
	tests := []struct {
		name    string
		maxBody int64
		size    int
		want    int
	}{
		{"default, at the limit", 0, grantexhook.DefaultMaxBody, 200},
		{"default, beyond", 0, grantexhook.DefaultMaxBody + 1, 413},
		{"own, at the limit", 1000, 1000, 200},
		{"own, beyond", 1000, 1001, 413},
		{"far beyond", 1000, 5 << 20, 413},
	}
	for _, test := range tests {
		body := bytes.Repeat([]byte("a"), test.size)
		for kind, sent := range map[string]func(http.Header) string{
			"declared": func(h http.Header) string { return declared(h, test.size) + string(body) },
			"chunked":  func(h http.Header) string { return head(h) + chunk(body) + lastChunk },
		} {
			t.Run(test.name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					conn := dialPipe(t, &http.Server{Handler: newReceiver(t, secret, grantexhook.Options{MaxBody: test.maxBody})})
					h := http.Header{}
					grantexhook.Sign(h, secret, body, time.Now())
					conn.write(sent(h))
					require.Equal(t, test.want, conn.answer(t).StatusCode)
				})
			})
		}
	}
}

func TestMiddlewareFitsRouters(t *testing.T) {
	v := newVerifier(t, secret, nil)
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, payload, body)
	})
	mux := http.NewServeMux()
	mux.Handle("POST /hook", v.Middleware(ok))

	with := chi.NewRouter()
	with.Use(middleware.RequestID, middleware.Compress(5))
	with.With(v.Middleware).Method(http.MethodPost, "/hook", ok)

	use := chi.NewRouter()
	use.Use(v.Middleware)
	use.Post("/hook", ok)

	for name, h := range map[string]http.Handler{
		"ServeMux": mux, "chi With": with, "chi Use": use,
		"twice":          v.Middleware(v.Middleware(ok)),
		"TimeoutHandler": http.TimeoutHandler(v.Middleware(ok), time.Minute, ""),
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			resp, err := srv.Client().Do(newPost(t, srv.URL+"/hook", signed(secret, time.Now()), chunked(payload)))
			require.NoError(t, err)
			bodyOf(t, resp)
			require.Equal(t, http.StatusOK, resp.StatusCode)

			resp, err = srv.Client().Do(newPost(t, srv.URL+"/hook", http.Header{}, chunked(payload)))
			require.NoError(t, err)
			bodyOf(t, resp)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
			require.Equal(t, name == "TimeoutHandler", resp.Close, "only a writer without deadlines must close")
		})
	}
}

func TestMiddlewareHTTP2(t *testing.T) {
	rec := newReceiver(t, secret, grantexhook.Options{})
	srv := httptest.NewUnstartedServer(rec)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	for _, test := range []struct {
		header http.Header
		want   int
	}{{signed(secret, time.Now()), 200}, {http.Header{}, 401}, {signed(otherSecret, time.Now()), 401}, {signed(secret, time.Now()), 200}} {
		resp, err := srv.Client().Do(newPost(t, srv.URL, test.header, chunked(payload)))
		require.NoError(t, err)
		bodyOf(t, resp)
		require.Equal(t, 2, resp.ProtoMajor)
		require.Equal(t, test.want, resp.StatusCode)
	}
	require.Equal(t, payload, rec.spy.body)

	srv.Client().Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
	asked := false
	trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
	never, w := io.Pipe()
	defer w.Close()
	r := newPost(t, srv.URL, http.Header{"Expect": {"100-continue"}}, never)
	resp, err := srv.Client().Do(r.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.False(t, asked, "for a rejected body")
}

func TestMiddlewareBodyIsItsOwn(t *testing.T) {
	v := newVerifier(t, secret, nil)
	var bodies [][]byte
	h := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A bytes.Reader hands its own memory to a writer.
		r.Body.(io.WriterTo).WriteTo(writerFunc(func(p []byte) { bodies = append(bodies, p) }))
	}))
	for i := range 20 {
		body := bytes.Repeat([]byte{byte('a' + i)}, 100)
		header := http.Header{}
		grantexhook.Sign(header, secret, body, time.Now())
		h.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", header, bytes.NewReader(body)))
	}
	for i, body := range bodies {
		require.Equal(t, bytes.Repeat([]byte{byte('a' + i)}, 100), body, "the memory of a verified body must not be reused")
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestMiddlewarePanicsAtStartUp(t *testing.T) {
	require.Panics(t, func() { newVerifier(t, secret, nil).Middleware(nil) })
	v, err := grantexhook.NewVerifier("", nil)
	require.Error(t, err)
	require.Panics(t, func() { v.Middleware(new(spy)) })
}

func TestMiddlewareZeroVerifier(t *testing.T) {
	w := httptest.NewRecorder()
	var s spy
	h := signed(secret, time.Now())
	new(grantexhook.Verifier).Middleware(&s).ServeHTTP(w, newPost(t, "/", h, failing{errors.New("the body was read")}))
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Zero(t, s.calls)
	err := new(grantexhook.Verifier).Verify(h, payload)
	require.EqualError(t, err, "grantexhook: bad signature: this Verifier has no secret; make it with NewVerifier")
}

// head is the head of a chunked request.
func head(h http.Header, more ...string) string {
	var b strings.Builder
	b.WriteString("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n")
	h.Write(&b)
	for _, line := range more {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

// declared is the head of a request that says how long its body is.
func declared(h http.Header, length int) string {
	return strings.Replace(head(h), "Transfer-Encoding: chunked", fmt.Sprintf("Content-Length: %d", length), 1)
}

func chunk(body []byte) string { return fmt.Sprintf("%x\r\n%s\r\n", len(body), body) }

const lastChunk = "0\r\n\r\n"

func TestMiddlewareRespondsBeforeTheBody(t *testing.T) {
	tests := []struct {
		name   string
		sent   func() string
		status int
		want   time.Duration // until the response
	}{
		{"no body yet", func() string { return head(http.Header{}) }, 401, 500 * time.Millisecond},
		{"half a chunk", func() string { return head(http.Header{}) + "100\r\nabc" }, 401, 500 * time.Millisecond},
		{"stale", func() string { return head(signed(secret, time.Now().Add(-time.Hour))) }, 401, 500 * time.Millisecond},
		{"declared too large", func() string { return declared(signed(secret, time.Now()), 300_000) }, 413, 500 * time.Millisecond},
		{"whole body", func() string { return head(http.Header{}) + chunk(payload) + lastChunk }, 401, 0},
		{"the client waits to be asked", func() string { return head(http.Header{}, "Expect: 100-continue") }, 401, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, secret, grantexhook.Options{MaxBody: 1000})
				conn := dialPipe(t, &http.Server{Handler: rec})
				conn.write(test.sent())
				start := time.Now()
				resp := conn.answer(t)
				require.Equal(t, test.status, resp.StatusCode)
				require.Equal(t, test.want, time.Since(start))
				require.Zero(t, rec.spy.calls)
			})
		})
	}
}

func TestMiddlewareCutsOffASlowBody(t *testing.T) {
	tests := []struct {
		name        string
		readTimeout time.Duration // of the Server
		want        time.Duration
	}{
		{"no timeout of the Server", 0, 10 * time.Second},
		{"a longer one", time.Minute, 10 * time.Second},
		{"a slightly longer one", 15 * time.Second, 10 * time.Second},
		{"a shorter one", 3 * time.Second, 3 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, secret, grantexhook.Options{})
				conn := dialPipe(t, &http.Server{Handler: rec, ReadTimeout: test.readTimeout})
				start := time.Now()
				var trickle sync.WaitGroup
				defer trickle.Wait()
				trickle.Go(func() {
					_, err := io.WriteString(conn, head(signed(secret, time.Now())))
					for err == nil {
						time.Sleep(900 * time.Millisecond)
						_, err = io.WriteString(conn, chunk([]byte("a")))
					}
				})
				resp := conn.answer(t)
				require.Equal(t, http.StatusBadRequest, resp.StatusCode)
				require.Equal(t, test.want, time.Since(start))
				require.Equal(t, grantexhook.ReasonUnreadable, rec.refused[0].reason)
				require.ErrorIs(t, rec.refused[0].err, os.ErrDeadlineExceeded)
				require.Zero(t, rec.spy.calls)
			})
		})
	}
}

// TestMiddlewareJudgesTheAgeOfACompleteBody checks that holding back the last byte
// of a recorded delivery doesn't keep it valid.
func TestMiddlewareJudgesTheAgeOfACompleteBody(t *testing.T) {
	const tolerance = time.Second
	tests := []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		after time.Duration // the last byte
		want  int
	}{
		{"in time", nil, tolerance, 200},
		{"too late", nil, 2 * time.Second, 401},
		{"much too late", nil, 8 * time.Second, 401},
		{"no deadlines, in time", noDeadlines, tolerance, 200},
		{"no deadlines, too late", noDeadlines, 8 * time.Second, 401},
		{"no deadlines, after an hour", noDeadlines, time.Hour, 401},
		{"TimeoutHandler, too late", func(h http.Handler) http.Handler { return http.TimeoutHandler(h, 2*time.Hour, "") }, time.Hour, 401},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, secret, grantexhook.Options{Tolerance: tolerance})
				h := rec.Handler
				if test.wrap != nil {
					h = test.wrap(h)
				}
				conn := dialPipe(t, &http.Server{Handler: h})
				last := len(payload) - 1
				conn.write(head(signed(secret, time.Now())) + chunk(payload[:last]))
				time.Sleep(test.after)
				conn.write(chunk(payload[last:]) + lastChunk)
				require.Equal(t, test.want, conn.answer(t).StatusCode)
				if test.want == 401 {
					require.Zero(t, rec.spy.calls)
					require.Equal(t, grantexhook.ReasonStale, rec.refused[0].reason)
				}
			})
		})
	}
}

// noDeadlines hides what the ResponseWriter of the Server can do, like a wrapper
// without an Unwrap method.
func noDeadlines(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
}

// TestMiddlewareWarnsWithoutDeadlines checks that a Server without deadlines gets
// one warning that a slow body can hold a connection.
func TestMiddlewareWarnsWithoutDeadlines(t *testing.T) {
	tests := []struct {
		name        string
		wrap        func(http.Handler) http.Handler
		readTimeout time.Duration
		want        int
	}{
		{"deadlines", func(h http.Handler) http.Handler { return h }, 0, 0},
		{"no deadlines", noDeadlines, 0, 1},
		{"no deadlines, a short ReadTimeout", noDeadlines, time.Second, 0},
		{"no deadlines, a long ReadTimeout", noDeadlines, time.Minute, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, secret, grantexhook.Options{})
				conn := dialPipe(t, &http.Server{Handler: test.wrap(rec), ReadTimeout: test.readTimeout})
				for range 3 {
					conn.write(head(signed(secret, time.Now())) + chunk(payload) + lastChunk)
					require.Equal(t, http.StatusOK, conn.answer(t).StatusCode)
				}
				require.Equal(t, test.want, strings.Count(rec.log.String(), "level=WARN"))
				require.Equal(t, test.want, strings.Count(rec.log.String(), "doesn't support read deadlines"))
			})
		})
	}
	rec := newReceiver(t, secret, grantexhook.Options{})
	rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", signed(secret, time.Now()), bytes.NewReader(payload)))
	require.Empty(t, rec.log.String(), "a recorder has no connections")
}

// TestMiddlewareFreesTheConnection checks that a connection doesn't wait for a body
// that has stopped coming, whatever the user's callbacks do.
func TestMiddlewareFreesTheConnection(t *testing.T) {
	boom := func(*http.Request, string, error) { panic("in Refused") }
	tests := []struct {
		name string
		opts grantexhook.Options
		sent string
	}{
		{"Refused panics", grantexhook.Options{Refused: boom}, head(http.Header{})},
		{"Refused panics, half a chunk", grantexhook.Options{Refused: boom}, head(http.Header{}) + "100\r\nabc"},
		{"Refused panics, declared length", grantexhook.Options{Refused: boom}, declared(http.Header{}, 300)},
		{"Log panics", grantexhook.Options{Log: slog.New(panicHandler{})}, head(http.Header{})},
		{"Refused takes its time", grantexhook.Options{Refused: func(*http.Request, string, error) { time.Sleep(time.Second) }}, head(http.Header{})},
		{"neither panics", grantexhook.Options{}, head(http.Header{})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if test.opts.Log == nil {
					test.opts.Log = slog.New(slog.DiscardHandler)
				}
				h := newVerifier(t, secret, &test.opts).Middleware(new(spy))
				conn := dialPipe(t, &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)})
				conn.write(test.sent)
				start := time.Now()
				io.Copy(io.Discard, conn)
				require.LessOrEqual(t, time.Since(start), 2*time.Second)
			})
		})
	}
}

type panicHandler struct{ slog.Handler }

func (panicHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panicHandler) Handle(context.Context, slog.Record) error { panic("in Log") }

// A halfClosed is a connection whose other side has sent everything and closed its
// half.
type halfClosed struct {
	net.Conn
	sent io.Reader
}

func (c *halfClosed) Read(p []byte) (int, error) { return c.sent.Read(p) }

func TestMiddlewareRespondsToABrokenOffBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, secret, grantexhook.Options{})
		sent := head(signed(secret, time.Now())) + chunk(payload[:50])
		conn := dialThrough(t, &http.Server{Handler: rec}, func(c net.Conn) net.Conn { return &halfClosed{c, strings.NewReader(sent)} })
		require.Equal(t, http.StatusBadRequest, conn.answer(t).StatusCode)
		require.Equal(t, grantexhook.ReasonUnreadable, rec.refused[0].reason)
		require.ErrorIs(t, rec.refused[0].err, io.ErrUnexpectedEOF)
	})
}

// putBack reads the whole body before h does, as a middleware that logs it may. It
// returns a second after h.
func putBack(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		h.ServeHTTP(w, r)
		time.Sleep(time.Second)
	})
}

// TestMiddlewareQuotesNoBody checks that a body with broken chunks isn't quoted,
// although net/http quotes it.
func TestMiddlewareQuotesNoBody(t *testing.T) {
	for _, broken := range []string{"0\r\ngrnt_1\r\n\r\n", "0\r\n" + string(payload) + "\r\n\r\n", "grnt_1\r\n"} {
		t.Run(broken, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, secret, grantexhook.Options{})
				conn := dialPipe(t, &http.Server{Handler: rec})
				conn.write(head(signed(secret, time.Now())) + broken)
				require.Equal(t, http.StatusBadRequest, conn.answer(t).StatusCode)
				require.Equal(t, grantexhook.ReasonUnreadable, rec.refused[0].reason)
				require.NotContains(t, rec.refused[0].err.Error(), "grnt_1")
				require.NotContains(t, rec.log.String(), "grnt_1")
			})
		})
	}
}

// TestMiddlewareBuffersOnlyWhatCame checks that announcing a body doesn't make the
// receiver allocate memory for it.
func TestMiddlewareBuffersOnlyWhatCame(t *testing.T) {
	const announced = 64 << 20
	h := newVerifier(t, secret, &grantexhook.Options{MaxBody: announced, Log: slog.New(slog.DiscardHandler)}).Middleware(new(spy))
	r := newPost(t, "/", signed(secret, time.Now()), io.MultiReader(bytes.NewReader(payload), failing{io.ErrUnexpectedEOF}))
	r.ContentLength = announced
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(announced/8))
}

// TestMiddlewareLeavesTheHandlerItsTime checks that the deadline for reading the body
// doesn't end the handler's context, even if net/http already watches the connection.
func TestMiddlewareLeavesTheHandlerItsTime(t *testing.T) {
	for _, readBefore := range []bool{false, true} {
		for _, readTimeout := range []time.Duration{0, 5 * time.Second, time.Minute} {
			t.Run(fmt.Sprintf("read before: %t, ReadTimeout: %v", readBefore, readTimeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var atEnd error
					h := newVerifier(t, secret, nil).Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						time.Sleep(2 * time.Minute)
						atEnd = r.Context().Err()
					}))
					if readBefore {
						h = putBack(h)
					}
					conn := dialPipe(t, &http.Server{Handler: h, ReadTimeout: readTimeout})
					conn.write(head(signed(secret, time.Now())) + chunk(payload) + lastChunk)
					require.Equal(t, http.StatusOK, conn.answer(t).StatusCode)
					require.NoError(t, atEnd)
				})
			})
		}
	}
}

// TestMiddlewareKeepsTheConnection checks that a rejected request doesn't harm a later
// one on the same connection, which a proxy may share among its clients.
func TestMiddlewareKeepsTheConnection(t *testing.T) {
	whole := func() string { return head(http.Header{}) + chunk(payload) + lastChunk }
	forged := func() string { return head(signed(otherSecret, time.Now())) + chunk(payload) + lastChunk }
	noBody := func() string { return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" }
	for name, refused := range map[string]func() string{"unsigned": whole, "forged": forged, "no body": noBody} {
		for _, readBefore := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", read before: ", readBefore), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var ended error
					verified := newVerifier(t, secret, nil).Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						time.Sleep(time.Minute)
						ended = r.Context().Err()
					}))
					if readBefore {
						verified = putBack(verified)
					}
					conn := dialPipe(t, &http.Server{Handler: verified})
					conn.write(refused())
					require.Equal(t, http.StatusUnauthorized, conn.answer(t).StatusCode)
					conn.write(head(signed(secret, time.Now())) + chunk(payload) + lastChunk)
					require.Equal(t, http.StatusOK, conn.answer(t).StatusCode)
					require.NoError(t, ended)
				})
			})
		}
	}
}

// TestMiddlewareClosesWhatItCannotDrain checks that a connection is closed if its
// body is too large to drain, and only then.
func TestMiddlewareClosesWhatItCannotDrain(t *testing.T) {
	const most = 4 << 20
	for size, closed := range map[int]bool{most: false, most + 1: true, 9 << 20: true} {
		for name, wrap := range map[string]func(http.Handler) http.Handler{
			"read before": putBack, "not read before": func(h http.Handler) http.Handler { return h },
		} {
			t.Run(fmt.Sprint(size, " bytes, ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					conn := dialPipe(t, &http.Server{Handler: wrap(newReceiver(t, secret, grantexhook.Options{}))})
					conn.write(head(http.Header{}) + chunk(make([]byte, size)) + lastChunk)
					resp := conn.answer(t)
					require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
					require.Equal(t, closed, resp.Close)
				})
			})
		}
	}
}

// TestMiddlewareLingers checks that a sender whose body didn't end has time to read
// the response, even if the ResponseWriter is wrapped.
func TestMiddlewareLingers(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"Server":  func(w http.ResponseWriter) http.ResponseWriter { return w },
		"wrapped": func(w http.ResponseWriter) http.ResponseWriter { return wrapper{wrapper{w}} },
	} {
		for _, sent := range []string{head(http.Header{}) + "100\r\nabc", declared(http.Header{}, 300), head(http.Header{}, "Expect: 100-continue")} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rec := newReceiver(t, secret, grantexhook.Options{})
					conn := dialPipe(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rec.ServeHTTP(wrap(w), r) })})
					conn.write(sent)
					require.Equal(t, http.StatusUnauthorized, conn.answer(t).StatusCode)
					start := time.Now()
					_, err := conn.r.ReadByte()
					require.ErrorIs(t, err, io.EOF)
					took := time.Since(start)
					require.GreaterOrEqual(t, took, 500*time.Millisecond, "net/http waits so long before it closes")
					require.LessOrEqual(t, took, time.Second)
				})
			})
		}
	}
}

type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestMiddlewareLogsToTheDefault(t *testing.T) {
	var b bytes.Buffer
	old := slog.Default()
	defer slog.SetDefault(old)
	h := newVerifier(t, secret, nil).Middleware(new(spy))
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	h.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", http.Header{}, bytes.NewReader(payload)))
	require.Contains(t, b.String(), "no_signature")
}

func TestRefusedGetsTheCause(t *testing.T) {
	rec := newReceiver(t, secret, grantexhook.Options{MaxBody: 10})
	rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", signed(secret, time.Now()), chunked(payload)))
	var tooLarge *http.MaxBytesError
	require.True(t, errors.As(rec.refused[0].err, &tooLarge))
	require.EqualValues(t, 10, tooLarge.Limit)
}
