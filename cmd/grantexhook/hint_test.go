package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/internal/diagnose"
	"grantex.dev/grantexhook/internal/sender"
)

// verifying returns a receiver that verifies deliveries and ignores the events.
func verifying(t *testing.T, opts *grantexhook.Options) http.Handler {
	t.Helper()
	v, err := grantexhook.NewVerifier(testSecret, opts)
	require.NoError(t, err)
	return v.Middleware(&grantexhook.Dispatcher{})
}

// reencoding decodes the body and encodes it again before next verifies it.
func reencoding(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any
		json.NewDecoder(r.Body).Decode(&v)
		text, _ := json.Marshal(v)
		r.Body = io.NopCloser(strings.NewReader(string(text)))
		next.ServeHTTP(w, r)
	})
}

// endless sends a header that doesn't end.
func endless(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
	for range 100_000 {
		if _, err := io.WriteString(conn, "X-A: "+strings.Repeat("a", 1000)+"\r\n"); err != nil {
			return
		}
	}
}

// TestSendHints checks the hints of send, with real receivers.
func TestSendHints(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	mux := http.NewServeMux()
	mux.Handle("/hook", verifying(t, &grantexhook.Options{Log: quiet}))
	mux.Handle("/v2", verifying(t, &grantexhook.Options{RequireTimestamp: true, Log: quiet}))
	mux.Handle("/reencoded", reencoding(verifying(t, &grantexhook.Options{Log: quiet})))
	mux.HandleFunc("/endless", endless)
	mux.HandleFunc("/panics", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/ssh", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		io.WriteString(conn, "SSH-2.0-OpenSSH_9\r\n")
		conn.Close()
	})
	mux.HandleFunc("GET /get", func(http.ResponseWriter, *http.Request) {})
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	defer plain.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	tests := []struct {
		name, args, url string
		want            []string // on stderr
	}{
		{"self-signed", "", secure.URL + "/hook", []string{"SSL_CERT_FILE"}},
		{"https where http is", "", strings.Replace(plain.URL, "http:", "https:", 1) + "/hook", []string{"must begin with http://"}},
		{"http where https is", "", strings.Replace(secure.URL, "https:", "http:", 1) + "/hook", []string{"must begin with https://"}},
		{"wrong path", "", plain.URL + "/hooks", []string{"is the path right?"}},
		{"wrong method", "", plain.URL + "/get", []string{"is the path right?"}},
		{"encoded again", "", plain.URL + "/reencoded", []string{"and the right time? if so, was the body", "grantexhook verify"}},
		{"too old", "-at -10m", plain.URL + "/hook", []string{"with this -at the timestamp is outside the tolerance"}},
		{"too new", "-at 10m", plain.URL + "/hook", []string{"with this -at the timestamp is outside the tolerance"}},
		{"timestamp required", "-legacy", plain.URL + "/v2", []string{"RequireTimestamp", "have the same secret"}},
		{"endless headers", "", plain.URL + "/endless", []string{"the receiver's log may say why"}},
		{"another protocol", "", plain.URL + "/ssh", []string{"is the port right?"}},
		{"a handler that panics", "", plain.URL + "/panics", []string{"did its handler panic?"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append(append([]string{"send"}, strings.Fields(tt.args)...), "grant.created", tt.url)
			r := withSecret().run(t.Context(), args...)
			require.Equal(t, exitFailed, r.status, r)
			for _, want := range tt.want {
				require.Contains(t, r.stderr, want)
			}
			require.Regexp(t, `^grantexhook: 0 of 1 events delivered\nhint: [^\n]*[^.\n]\n$`, r.stderr)
		})
	}
	for _, args := range []string{"", "-legacy", "-at -1m"} {
		r := withSecret().run(t.Context(), append(append([]string{"send"}, strings.Fields(args)...), "grant.created", plain.URL+"/hook?x=1 2")...)
		require.Equal(t, exitDone, r.status, r)
		require.Contains(t, r.stdout, "200 ignored")
	}
}

func TestHint(t *testing.T) {
	untrusted := func(err error) error {
		return &sender.HandshakeError{Err: &tls.CertificateVerificationError{Err: err}}
	}
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}
	tests := []struct {
		name, scheme string
		attempt      sender.Attempt
		want         string
	}{
		{"crash", "http", sender.Attempt{Status: 204}, "respond with 200"},
		{"interrupted", "http", sender.Attempt{Err: errInterrupted}, ""},
		{"time-out", "http", sender.Attempt{Err: context.DeadlineExceeded}, "ten seconds"},
		{"not running", "http", sender.Attempt{Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, "is the receiver running?"},
		{"another host", "https", sender.Attempt{Err: untrusted(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"})}, "is the host in the URL right?"},
		{"untrusted", "https", sender.Attempt{Err: untrusted(x509.UnknownAuthorityError{})}, "SSL_CERT_FILE"},
		{"expired", "https", sender.Attempt{Err: untrusted(x509.CertificateInvalidError{Reason: x509.Expired})}, "not valid yet"},
		{"client's certificate", "https", sender.Attempt{Err: &sender.HandshakeError{Err: alert}}, "ended the handshake"},
		{"hung up in the handshake", "https", sender.Attempt{Err: &sender.HandshakeError{Err: io.EOF}}, "must begin with http://"},
		{"TLS alert", "http", sender.Attempt{Err: sender.ErrNotHTTP}, "must begin with https://"},
		{"reset", "http", sender.Attempt{Err: &net.OpError{Op: "read", Err: errors.New("reset")}}, "must begin with https://"},
		{"not HTTP", "http", sender.Attempt{Err: errors.New(`malformed HTTP response "SSH-2.0-OpenSSH_9"`)}, "is the port right?"},
		{"hung up", "https", sender.Attempt{Err: io.ErrUnexpectedEOF}, "the receiver's log may say why"},
		{"nginx", "http", sender.Attempt{Status: 400, Excerpt: "<title>400 The plain HTTP request was sent to HTTPS port</title>"}, "must begin with https://"},
		{"Apache", "http", sender.Attempt{Status: 400, Excerpt: "You're speaking plain HTTP to an SSL-enabled server port."}, "must begin with https://"},
		{"another 400", "http", sender.Attempt{Status: 400, Excerpt: "bad"}, "the receiver's log may say why"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &courier{parcel: sender.Parcel{URL: &url.URL{Scheme: tt.scheme}}}
			if tt.want == "" {
				require.Empty(t, c.hint(tt.attempt))
			}
			require.Contains(t, c.hint(tt.attempt), tt.want)
		})
	}
}

// TestAPIHint checks the hints for failures without a recording.
func TestAPIHint(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	env := map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": s.URL}
	r := session{env: env}.run(t.Context(), "endpoints", "list")
	require.Equal(t, exitFailed, r.status)
	require.Regexp(t, "^grantexhook: [^\n]+\nhint: can this machine reach the API\\? check GRANTEX_URL if it is set\n$", r.stderr)
	require.Empty(t, apiHint(&url.Error{Err: context.Canceled}), "it was interrupted")
	require.Equal(t, "try again in 20s", apiHint(&grantexapi.Error{StatusCode: 502, RetryAfter: 20 * time.Second}))
	require.Empty(t, apiHint(&grantexapi.Error{StatusCode: 400}))
	require.Empty(t, apiHint(errors.New("no")))
}

// TestMistakeHints checks that every kind of mistake has a hint.
func TestMistakeHints(t *testing.T) {
	for kind := range diagnose.V2Changed + 1 {
		require.NotEmpty(t, mistakeHints[kind], kind)
	}
	require.Len(t, mistakeHints, int(diagnose.V2Changed)+1)
}

// TestSendPrintsTheResponse checks that the output shows which delivery was a
// duplicate.
func TestSendPrintsTheResponse(t *testing.T) {
	v, err := grantexhook.NewVerifier(testSecret, nil)
	require.NoError(t, err)
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil })
	s := httptest.NewServer(v.Middleware(&d))
	defer s.Close()
	r := withSecret().run(t.Context(), "send", "-id", "evt_1", "-count", "2", "grant.revoked", s.URL)
	require.Equal(t, exitDone, r.status)
	require.Regexp(t, `^evt_1  grant.revoked  attempt 1  200 handled  \S+\nevt_1  grant.revoked  attempt 1  200 duplicate  \S+\n$`, r.stdout)
	r = withSecret().run(t.Context(), "send", "-id", "evt_1", "-json", "grant.revoked", s.URL)
	require.Contains(t, r.stdout, `"delivered":true,"status":200,"answer":"duplicate",`)
}

func TestResponse(t *testing.T) {
	tests := []struct {
		name    string
		attempt sender.Attempt
		want    string
	}{
		{"word", sender.Attempt{Status: 200, Excerpt: "handled"}, "200 handled"},
		{"word with a newline", sender.Attempt{Status: 409, Excerpt: "in_flight\n"}, "409 in_flight"},
		{"nothing", sender.Attempt{Status: 200}, "200 delivered"},
		{"nothing, failed", sender.Attempt{Status: 500}, "500 not delivered"},
		{"words", sender.Attempt{Status: 404, Excerpt: "404 page not found\n"}, "404 not delivered"},
		{"a long word", sender.Attempt{Status: 200, Excerpt: strings.Repeat("a", 33)}, "200 delivered"},
		{"escapes", sender.Attempt{Status: 200, Excerpt: "a\x1b[31mb"}, "200 delivered"},
		{"JSON", sender.Attempt{Status: 200, Excerpt: `{"ok":true}`}, "200 delivered"},
		{"error", sender.Attempt{Err: errors.New("a\x1b[31m\nb\u202e")}, "no response: a [31m; b "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, answer(tt.attempt)) })
	}
}

// TestSendDataLikeGrantex checks that data is written as Grantex writes it.
func TestSendDataLikeGrantex(t *testing.T) {
	rec := &receiver{}
	server := httptest.NewServer(rec)
	defer server.Close()
	s := withSecret()
	s.stdin = "\uFEFF" + `{"a": "\u00e9 \u003c \/ \ud83d\ude00 \u2028", "b": "\u0041\n\u001b\"\\", "expiresAt": "2026-11-23T14:01:56+02:00"}`
	r := s.run(t.Context(), "send", "-data", "-", "x.y", server.URL)
	require.Equal(t, exitDone, r.status, r)
	_, data, _ := strings.Cut(rec.bodies[0], `"data":`)
	require.Equal(t, `{"a":"é < / 😀 `+"\u2028"+`","b":"A\n\u001b\"\\","expiresAt":"2026-11-23T12:01:56.000Z"}}`, data)
}
