package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	want := []string{
		`^examples/nethttp has started`,
		`^    .* listening on (127\.0\.0\.1|\[::1\]):\d+$`,
		`^grant\.created +→ 200 handled: `,
		`^    .* "grnt_\w{26}".*"calendar:read"`,
		`^token\.issued +→ 200 handled: `,
		`^    .* "tok_\w{26}"`,
		`^grant\.created again, .* → 200 duplicate: `,
		`^grant\.revoked +→ 200 handled: `,
		`^    .* "grnt_\w{26}".* revoked`,
		`^grant\.created, .* another secret +→ 401 Unauthorized: `,
		`^    .* reason=bad_signature`,
		`^grant\.revoked, .* an hour ago +→ 401 Unauthorized: `,
		`^    .* reason=stale`,
		`^examples/nethttp has stopped$`,
	}
	require.Len(t, lines, len(want), out.String())
	for i, line := range lines {
		require.Regexp(t, want[i], line)
	}

	addr := regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):\d+`).FindString(lines[1])
	_, err := net.DialTimeout("tcp", addr, time.Second)
	require.Error(t, err, "the example outlived the demo")
}

func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, io.Discard), context.Canceled)
}

// startExample starts examples/nethttp, which is to listen on addr.
func startExample(t *testing.T, secret string) (p *program, addr string) {
	t.Helper()
	path, err := build(t.Context(), t.TempDir())
	require.NoError(t, err)
	addr, err = freeAddr()
	require.NoError(t, err)
	p, err = start(t.Context(), path, "GRANTEX_WEBHOOK_SECRET="+secret, "ADDR="+addr)
	require.NoError(t, err)
	t.Cleanup(func() { p.stop(io.Discard) })
	return p, addr
}

func TestEndsBeforeItListens(t *testing.T) {
	p, addr := startExample(t, "")
	require.EqualError(t, p.listens(t.Context(), addr), "examples/nethttp ended before it listened on "+addr+": exit status 1")
	var out strings.Builder
	require.NoError(t, p.printLog(&out))
	require.Regexp(t, `^    .*the secret is empty`, out.String())
}

func TestUnexpectedAnswer(t *testing.T) {
	secret := newSecret()
	p, addr := startExample(t, secret)
	require.NoError(t, p.listens(t.Context(), addr))
	err := p.receive(t.Context(), io.Discard, "http://"+addr+"/nowhere", deliveries(secret, time.Now()))
	require.EqualError(t, err, `grant.created: the answer is "404 404 page not found", but should be "200 handled"`)
}

// TestLogLinesCannotBeForged checks that text from the sender, even from Grantex,
// can't start a line in the log of the example.
func TestLogLinesCannotBeForged(t *testing.T) {
	secret := newSecret()
	p, addr := startExample(t, secret)
	require.NoError(t, p.listens(t.Context(), addr))
	const forged = "x\nFORGED \x1b[2J\u2028"
	for _, data := range []grantexhook.Payload{
		grantexhook.GrantCreated{GrantID: forged, AgentID: forged, Scopes: []string{forged}},
		grantexhook.GrantRevoked{GrantID: forged},
		grantexhook.TokenIssued{GrantID: forged, TokenID: forged},
	} {
		d := delivery{body: newEvent(time.Now(), data), secret: secret, sentAt: time.Now()}
		answer, err := d.send(t.Context(), "http://"+addr+"/webhooks/grantex")
		require.NoError(t, err)
		require.Equal(t, "200 handled", answer)
	}
	var out strings.Builder
	require.NoError(t, p.printLog(&out))
	require.Len(t, strings.Split(strings.TrimSpace(out.String()), "\n"), 4, out.String())
	require.NotContains(t, out.String(), "\x1b")
	require.Equal(t, 6, strings.Count(out.String(), `x\nFORGED`), out.String())
}

func TestSend(t *testing.T) {
	secret, now := newSecret(), time.Now()
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true})
	require.NoError(t, err)
	var got *http.Request
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(r.Context())
		v.Middleware(next).ServeHTTP(w, r)
	}))
	defer s.Close()

	answer, err := deliveries(secret, now)[0].send(t.Context(), s.URL)
	require.NoError(t, err)
	require.Equal(t, "302 ", answer)
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, []string{"chunked"}, got.TransferEncoding)
	require.EqualValues(t, -1, got.ContentLength)
	require.Equal(t, "Grantex-Webhooks/0.1", got.UserAgent())
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
}

func TestDeliveries(t *testing.T) {
	all := deliveries(newSecret(), time.Now())
	require.Equal(t, all[0].body, all[2].body, "a retry has the same body")
	require.NotEqual(t, all[0].secret, all[4].secret)
	ids := map[string]bool{}
	for _, d := range all {
		require.NotEmpty(t, d.body)
		id, _, _ := bytes.Cut(d.body, []byte(`","type":"`))
		ids[string(id)] = true
	}
	require.Len(t, ids, len(all)-1, "each but the retry is an event of its own")
}
