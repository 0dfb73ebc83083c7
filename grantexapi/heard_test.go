package grantexapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
)

// A resetter responds to GET with an empty list. It reads any other request and closes the
// connection without a response.
type resetter struct {
	net.Listener
	mu    sync.Mutex
	heard []string
	conns int
}

func (s *resetter) seen() (heard []string, conns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard), s.conns
}

func newResetter(t *testing.T) *resetter {
	t.Helper()
	l := listenLoopback(t)
	s := &resetter{Listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *resetter) serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	s.conns++
	s.mu.Unlock()
	for in := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		s.mu.Lock()
		s.heard = append(s.heard, r.Method)
		s.mu.Unlock()
		if r.Method != http.MethodGet {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n"+`{"webhooks":[]}`)
	}
}

func TestCreateIsSentOnce(t *testing.T) {
	tests := []struct {
		name   string
		call   func(context.Context, *grantexapi.Client) error
		method string
		reused bool // the connection, which is when net/http likes to try again
		maybe  bool
	}{
		{"create", create, "POST", false, true},
		{"create, reused", create, "POST", true, true},
		{"delete", remove, "DELETE", false, false},
		{"delete, reused", remove, "DELETE", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newResetter(t)
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			c := &grantexapi.Client{APIKey: apiKey, BaseURL: "http://" + s.Addr().String(), HTTPClient: &http.Client{Transport: transport}}
			want := []string{tt.method}
			if tt.reused {
				require.NoError(t, list(t.Context(), c))
				want = []string{"GET", tt.method}
			}
			err := tt.call(t.Context(), c)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, tt.maybe, errors.Is(err, grantexapi.ErrMaybeCreated))
			heard, conns := s.seen()
			require.Equal(t, want, heard)
			require.Equal(t, 1, conns)
		})
	}
}

// TestCreateCannotBeReplayed checks that net/http can't send the body again, be it after
// a redirect, on a lost connection, or after a GOAWAY of HTTP/2.
func TestCreateCannotBeReplayed(t *testing.T) {
	var asked *http.Request
	c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = r
		return nil, io.ErrUnexpectedEOF
	})}}
	require.ErrorIs(t, create(t.Context(), c), grantexapi.ErrMaybeCreated)
	require.Equal(t, http.MethodPost, asked.Method)
	require.Nil(t, asked.GetBody)
	require.NotContains(t, asked.Header, "Idempotency-Key", "net/http resends a request that has one")
	require.NotContains(t, asked.Header, "X-Idempotency-Key")
}

// TestMaybeCreated checks the responses that the tests of Client don't.
func TestMaybeCreated(t *testing.T) {
	tests := []struct {
		name   string
		answer http.Handler
		maybe  bool
		want   string
	}{
		{"no secret", says(201, `{"id":"wh_1","url":"https://example.com","events":[],"createdAt":"2026-11-23T12:00:00Z"}`), true, "is Client.BaseURL right?"},
		{"empty secret", says(201, `{"id":"wh_1","secret":""}`), true, "is Client.BaseURL right?"},
		{"no ID", says(201, `{"secret":"`+secret+`"}`), true, "is Client.BaseURL right?"},
		{"placeholder", says(201, `{"id":"wh_1","secret":"[redacted]"}`), true, "is Client.BaseURL right?"},
		{"secret of another type", says(201, `{"id":"wh_1","secret":["`+secret+`"]}`), true, "is Client.BaseURL right?"},
		{"no content", says(204, ``), true, "is Client.BaseURL right?"},
		{"cut", cut(201, `{"id":"wh_1","secret":"`+secret), true, "reading the response"},
		{"500", says(500, ``), true, "500: Internal Server Error"},
		{"502", says(502, ``), true, "502: Bad Gateway"},
		{"504", says(504, ``), true, "504: Gateway Timeout"},
		{"408", says(408, ``), true, "408: Request Timeout"},
		{"400", says(400, ``), false, "400: Bad Request"},
		{"401", says(401, ``), false, "401: Unauthorized"},
		{"402", says(402, ``), false, "402: Payment Required"},
		{"429", says(429, ``), false, "429: Too Many Requests"},
		{"304", says(304, ``), false, "304: Not Modified"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, tt.answer)
			e, err := a.client().Create(t.Context(), "https://example.com/hook", "grant.revoked")
			require.Nil(t, e)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), secret)
			require.Len(t, a.lines(), 1)
			if !tt.maybe {
				require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
				return
			}
			require.ErrorIs(t, err, grantexapi.ErrMaybeCreated)
			require.ErrorContains(t, err, "; the endpoint may have been created, and its secret is lost: find it with List, and Delete it before you create another")
			require.Equal(t, 1, strings.Count(err.Error(), "grantexapi: "))
		})
	}
}

// closedPort returns an address without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l := listenLoopback(t)
	l.Close()
	return l.Addr().String()
}

// via sends through a proxy.
func via(t *testing.T, proxy string) *http.Transport {
	t.Helper()
	u, err := url.Parse(proxy)
	require.NoError(t, err)
	return &http.Transport{Proxy: http.ProxyURL(u)}
}

// TestCreateUnheard checks calls that got no connection.
func TestCreateUnheard(t *testing.T) {
	plain := newAPI(t, says(407, ""))
	unknown := httptest.NewUnstartedServer(says(200, ""))
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	unknown.StartTLS()
	t.Cleanup(unknown.Close)
	closed := "http://" + closedPort(t)
	const elsewhere = "https://api.example.com"
	var cancel context.CancelFunc
	slow := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	tests := []struct {
		name, baseURL string
		transport     http.RoundTripper
		want          string
	}{
		{"refused", closed, nil, "connection refused"},
		{"refused by the proxy", elsewhere, via(t, closed), "proxyconnect"},
		{"407 of the proxy", elsewhere, via(t, plain.URL), "Proxy Authentication Required"},
		{"unknown authority", unknown.URL, nil, "x509: "},
		{"no TLS", "https" + plain.URL[len("http"):], nil, "HTTP response to HTTPS client"},
		{"cancelled while dialling", elsewhere, slow, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &grantexapi.Client{APIKey: apiKey, BaseURL: tt.baseURL, HTTPClient: &http.Client{Transport: tt.transport}}
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			err := create(ctx, c)
			require.ErrorContains(t, err, `grantexapi: Post "`+tt.baseURL)
			require.ErrorContains(t, err, tt.want)
			require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
		})
	}
}

// TestCreateMaybeHeard checks calls whose last error sounds as if there had been no
// connection.
func TestCreateMaybeHeard(t *testing.T) {
	s := newResetter(t)
	closed := closedPort(t)
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	h2.EnableHTTP2 = true
	h2.StartTLS()
	t.Cleanup(h2.Close)
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	repeating := func(r *http.Request) (*http.Response, error) {
		_, err := http.DefaultTransport.RoundTrip(r)
		require.ErrorIs(t, err, io.EOF)
		again := r.Clone(r.Context())
		again.URL.Host, again.Body = closed, nil
		return http.DefaultTransport.RoundTrip(again)
	}
	tests := []struct {
		name, baseURL string
		transport     http.RoundTripper
		want          string
	}{
		{"heard, then refused", "http://" + s.Addr().String(), roundTripper(repeating), "connection refused"},
		{"untraced", "http://" + closed, roundTripper(func(*http.Request) (*http.Response, error) { return nil, refused }), "connection refused"},
		{"HTTP/2", h2.URL, h2.Client().Transport, "stream error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &grantexapi.Client{APIKey: apiKey, BaseURL: tt.baseURL, HTTPClient: &http.Client{Transport: tt.transport}}
			err := create(t.Context(), c)
			require.ErrorContains(t, err, tt.want)
			require.ErrorIs(t, err, grantexapi.ErrMaybeCreated)
		})
	}
}
