package grantexhook_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
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

// TestCreateUnheard is about calls for which there was no connection.
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
			c := &grantexhook.Client{APIKey: apiKey, BaseURL: tt.baseURL, HTTPClient: &http.Client{Transport: tt.transport}}
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			err := create(ctx, c)
			require.ErrorContains(t, err, `grantexhook: Post "`+tt.baseURL)
			require.ErrorContains(t, err, tt.want)
			require.NotErrorIs(t, err, grantexhook.ErrMaybeCreated)
		})
	}
}

// TestCreateMaybeHeard is about calls whose last error sounds as if there was no
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
		{"untold", "http://" + closed, roundTripper(func(*http.Request) (*http.Response, error) { return nil, refused }), "connection refused"},
		{"HTTP/2", h2.URL, h2.Client().Transport, "stream error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &grantexhook.Client{APIKey: apiKey, BaseURL: tt.baseURL, HTTPClient: &http.Client{Transport: tt.transport}}
			err := create(t.Context(), c)
			require.ErrorContains(t, err, tt.want)
			require.ErrorIs(t, err, grantexhook.ErrMaybeCreated)
		})
	}
}
