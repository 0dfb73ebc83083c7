package hooktest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// A receiver is what users have: a Dispatcher behind the middleware. It records which
// events were handled and why requests were rejected.
type receiver struct {
	http.Handler
	grantexhook.Dispatcher
	opts    grantexhook.Options
	handled chan string // ids of events
	refused chan string // reasons
}

// newReceiver returns a receiver that handles grant.revoked with h. A nil h succeeds.
// Each change may adjust the receiver before its Verifier is made.
func newReceiver(t testing.TB, h func(context.Context) error, change ...func(*receiver)) *receiver {
	t.Helper()
	rec := &receiver{handled: make(chan string, 10), refused: make(chan string, 10)}
	rec.Log = silent
	rec.opts.Log = silent
	rec.opts.Refused = func(_ *http.Request, reason string, _ error) { rec.refused <- reason }
	grantexhook.On(&rec.Dispatcher, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		if e.Data != revoked {
			panic("not the payload that was sent")
		}
		rec.handled <- e.ID
		if h == nil {
			return nil
		}
		return h(ctx)
	})
	for _, c := range change {
		c(rec)
	}
	v, err := grantexhook.NewVerifier(secret, &rec.opts)
	require.NoError(t, err)
	rec.Handler = v.Middleware(&rec.Dispatcher)
	return rec
}

func (rec *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) { rec.Handler.ServeHTTP(w, r) }

// drain returns what the channel holds now.
func drain(c chan string) (all []string) {
	for len(c) > 0 {
		all = append(all, <-c)
	}
	return all
}

func TestNewRequestWithARecorder(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/grantex", newReceiver(t, nil))
	tests := []struct {
		name   string
		sender hooktest.Sender
		status int
		body   string
	}{
		{"right", hooktest.Sender{Secret: secret, Path: "/hooks/grantex"}, http.StatusOK, "handled"},
		{"path without slash, with a query", hooktest.Sender{Secret: secret, Path: "hooks/grantex?tenant=1"}, http.StatusOK, "handled"},
		{"URL", hooktest.Sender{Secret: secret, URL: "https://example.com/hooks/grantex"}, http.StatusOK, "handled"},
		{"legacy", hooktest.Sender{Secret: secret, Path: "/hooks/grantex", Legacy: true}, http.StatusOK, "handled"},
		{"another path", hooktest.Sender{Secret: secret}, http.StatusNotFound, "404 page not found\n"},
		{"another secret", hooktest.Sender{Secret: "another", Path: "/hooks/grantex"}, http.StatusUnauthorized, "Unauthorized\n"},
		{"skewed", hooktest.Sender{Secret: secret, Path: "/hooks/grantex", Skew: 10 * time.Minute}, http.StatusUnauthorized, "Unauthorized\n"},
		{"cut", hooktest.Sender{Secret: secret, Path: "/hooks/grantex", Cut: 1}, http.StatusBadRequest, "Bad Request\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, tt.sender.NewRequest(t, revoked))
			require.Equal(t, tt.status, w.Code)
			require.Equal(t, tt.body, w.Body.String())
		})
	}
}

func TestNewRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hooktest.NewRequest(t, secret, revoked)
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/", r.URL.Path)
		require.Equal(t, int64(-1), r.ContentLength)
		require.Equal(t, []string{"chunked"}, r.TransferEncoding)
		require.Equal(t, "127.0.0.1:49152", r.RemoteAddr)
		require.Equal(t, "946684800", r.Header.Get(grantexhook.HeaderTimestamp))
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		v, err := grantexhook.NewVerifier(secret, nil)
		require.NoError(t, err)
		require.NoError(t, v.Verify(r.Header, body))
		r.Header.Del(grantexhook.HeaderSignatureV2)
		require.NoError(t, v.Verify(r.Header, body), "both signatures match")

		r = hooktest.Sender{Secret: secret, Skew: -time.Minute}.NewRequest(t, revoked)
		require.Equal(t, "946684740", r.Header.Get(grantexhook.HeaderTimestamp), "the clock is behind")
	})
}

func TestLegacyRequest(t *testing.T) {
	r := hooktest.Sender{Secret: secret, Legacy: true}.NewRequest(t, revoked)
	require.NotContains(t, r.Header, grantexhook.HeaderSignatureV2)
	require.NotContains(t, r.Header, grantexhook.HeaderTimestamp)
	require.Contains(t, r.Header, grantexhook.HeaderSignature)
}

// TestNewRequestWithAClient checks that a client sends the same as the real sender, and
// doesn't follow redirects either.
func TestNewRequestWithAClient(t *testing.T) {
	rec := newReceiver(t, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != -1 || len(r.TransferEncoding) != 1 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		rec.ServeHTTP(w, r)
	})
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusTemporaryRedirect))
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, status := range map[string]int{"/ok": http.StatusOK, "/moved": http.StatusTemporaryRedirect} {
		resp, err := server.Client().Do(hooktest.Sender{Secret: secret, URL: server.URL + path}.NewRequest(t, revoked))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, status, resp.StatusCode)
	}
	_, err := server.Client().Do(hooktest.Sender{Secret: secret, URL: server.URL + "/ok", Cut: 1}.NewRequest(t, revoked))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, drain(rec.handled), 1)
}

func TestNewRequestOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(newReceiver(t, nil))
	defer server.Close()
	resp, err := server.Client().Do(hooktest.Sender{Secret: secret, URL: server.URL}.NewRequest(t, revoked))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestNewRequestRejects(t *testing.T) {
	tests := []struct {
		name   string
		sender hooktest.Sender
		want   string
	}{
		{"secret with a line feed", hooktest.Sender{Secret: "x\n"}, "white space"},
		{"malformed path", hooktest.Sender{Secret: secret, Path: "%zz"}, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requireFatal(t, tt.want, func(t testing.TB) { tt.sender.NewRequest(t, revoked) })
		})
	}
}
