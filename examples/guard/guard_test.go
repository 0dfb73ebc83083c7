package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

const webhookSecret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"

// TestMain discards the log, which has a line for each token that's refused.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// A site is a guard with its own Grantex.
type site struct {
	api       *hooktest.API
	guard     *guard
	url       string // of the MCP endpoint
	questions atomic.Int32
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{api: hooktest.NewAPI()}
	t.Cleanup(s.api.Close)
	s.api.Intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasPrefix(r.URL.Path, "/v1/grants/") {
			s.questions.Add(1)
		}
		next.ServeHTTP(w, r)
	})
	grantex := httptest.NewServer(s.api)
	t.Cleanup(grantex.Close)
	server := httptest.NewUnstartedServer(nil)
	s.url = "http://" + server.Listener.Addr().String() + "/mcp"
	var err error
	s.guard, err = newGuard(t.Context(), config{
		API:       &grantexapi.Client{APIKey: "key", BaseURL: grantex.URL},
		Issuer:    hooktest.TokenIssuer,
		JWKS:      grantex.URL + "/.well-known/jwks.json",
		Developer: s.api.DeveloperID,
		URL:       s.url,
	})
	require.NoError(t, err)
	server.Config.Handler, err = s.guard.handler(webhookSecret)
	require.NoError(t, err)
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// token returns the token of a new grant.
func (s *site) token(scopes ...string) (grantID, token string) {
	grant := s.api.Create(grantexhook.GrantCreated{Scopes: scopes})
	return grant.GrantID, s.api.Token(grant.GrantID, s.url)
}

// do sends a request as an MCP client does.
func (s *site) do(t *testing.T, method, session, token, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-03-26") // the last one with batches
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (s *site) open(t *testing.T, token string) (session string) {
	t.Helper()
	resp := s.do(t, http.MethodPost, "", token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	session = resp.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, session)
	resp = s.do(t, http.MethodPost, session, token, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	return session
}

func bodyOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// TestUnauthorized checks which requests are rejected before Grantex is asked.
func TestUnauthorized(t *testing.T) {
	s := newSite(t)
	other := hooktest.NewAPI() // another account: its tokens have the same key
	t.Cleanup(other.Close)
	grant := other.Create(grantexhook.GrantCreated{Scopes: []string{"read"}})
	_, good := s.token("read")
	for name, token := range map[string]string{
		"no token":          "",
		"another account's": other.Token(grant.GrantID, s.url),
		"another audience":  s.api.Token(s.api.Create(grantexhook.GrantCreated{}).GrantID, "https://other.example.com"),
		"changed":           good[:len(good)-8] + "AAAAAAAA",
	} {
		t.Run(name, func(t *testing.T) {
			resp := s.do(t, http.MethodPost, "", token, `{}`)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
			require.Equal(t, `Bearer resource_metadata="`+strings.TrimSuffix(s.url, "/mcp")+`/.well-known/oauth-protected-resource/mcp"`, resp.Header.Get("WWW-Authenticate"))
			require.NotContains(t, bodyOf(t, resp), "account")
		})
	}
	require.Zero(t, s.questions.Load())
}

// TestScopes checks that a token without a tool's scope can't call it, whatever the
// request looks like.
func TestScopes(t *testing.T) {
	const insufficient = `Bearer error="insufficient_scope", scope="write"`
	s := newSite(t)
	_, reader := s.token("read")
	_, writer := s.token("read", "write")
	_, nobody := s.token()
	call := func(name string) string {
		return `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"` + name + `","arguments":{"text":"new"}}}`
	}
	tests := []struct {
		name, token, body string
		status            int
		challenge, want   string
	}{
		{"write", writer, call("write_note"), http.StatusOK, "", `"text":"new"`},
		{"write without the scope", reader, call("write_note"), http.StatusForbidden, insufficient, "insufficient scope"},
		{"read without the scope", nobody, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"read_note"}}`, http.StatusForbidden, `Bearer error="insufficient_scope", scope="read"`, "insufficient scope"},
		{"unknown tool", writer, call("drop_note"), http.StatusOK, "", "no scope"},
		{"other names for the parser", reader, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"write_note","Name":"read_note","arguments":{"text":"x"}}}`, http.StatusOK, "", "no scope"},
		{"batch", reader, "[" + call("write_note") + "]", http.StatusOK, "", "no scope"},
		{"list", nobody, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, http.StatusOK, "", "write_note"},
		{"too large", writer, call(strings.Repeat("x", 5<<20)), http.StatusRequestEntityTooLarge, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := s.do(t, http.MethodPost, s.open(t, tt.token), tt.token, tt.body)
			require.Equal(t, tt.status, resp.StatusCode)
			require.Equal(t, tt.challenge, resp.Header.Get("WWW-Authenticate"))
			require.Contains(t, bodyOf(t, resp), tt.want)
		})
	}
}

// TestOtherGrant checks that a session can't be used with another grant's token.
func TestOtherGrant(t *testing.T) {
	s := newSite(t)
	_, first := s.token("read")
	_, second := s.token("read")
	session := s.open(t, first)
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		require.Equal(t, http.StatusForbidden, s.do(t, method, session, second, `{"jsonrpc":"2.0","id":2,"method":"ping"}`).StatusCode)
	}
	require.Equal(t, http.StatusOK, s.do(t, http.MethodPost, session, first, `{"jsonrpc":"2.0","id":2,"method":"ping"}`).StatusCode)
}

// TestWebhook checks that a webhook ends a grant, without the event stream.
func TestWebhook(t *testing.T) {
	s := newSite(t)
	id, token := s.token("read")
	session := s.open(t, token)
	stream := s.do(t, http.MethodGet, session, token, "")
	require.Equal(t, http.StatusOK, stream.StatusCode)
	_, err := bufio.NewReader(stream.Body).ReadString('\n')
	require.NoError(t, err)

	s.api.Revoke(id)
	hook := hooktest.Sender{Secret: webhookSecret, URL: strings.TrimSuffix(s.url, "/mcp") + "/webhooks/grantex"}
	resp, err := http.DefaultClient.Do(hook.NewRequest(t, grantexhook.GrantRevoked{GrantID: id}))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	io.Copy(io.Discard, stream.Body) // returns once the stream is cut

	// Neither its body nor its scopes matter any more.
	resp = s.do(t, http.MethodPost, session, token, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"write_note"}}`)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Contains(t, resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`)
}

// TestUnknown checks that nothing passes while Grantex doesn't answer.
func TestUnknown(t *testing.T) {
	s := newSite(t)
	_, token := s.token("read")
	s.api.Intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusBadGateway) })
	resp := s.do(t, http.MethodPost, "", token, `{}`)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
}

// TestBadURL checks that a URL that no handler could be registered for is rejected.
func TestBadURL(t *testing.T) {
	c := testConfig
	c.JWKS = serveKeys(t, newSigner(t).keys(t, "key_1")).URL
	c.API = &grantexapi.Client{APIKey: "key"}
	for _, url := range []string{"https://guard.example.com", "guard.example.com/mcp", "/mcp", "https://%", "ftp://guard.example.com/mcp",
		"https://guard.example.com/", "https://guard.example.com/{", "https://guard.example.com/{any}", "https://guard.example.com/a b",
		"https://guard.example.com/../mcp", "https://guard.example.com/mcp?x=1"} {
		c.URL = url
		_, err := newGuard(t.Context(), c)
		require.ErrorContains(t, err, "GUARD_URL")
	}
}

// TestStartErrors checks that start rejects wrong settings, and doesn't quote a key that's
// in the wrong place.
func TestStartErrors(t *testing.T) {
	keys := serveKeys(t, newSigner(t).keys(t, "key_1"))
	tests := []struct{ name, key, url, want string }{
		{"not a key", "a b", keys.URL, "APIKey"},
		{"key as the URL", "key", "gx_live_1", "BaseURL"},
		{"another server", "key", keys.URL, "GRANTEX_API_URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GRANTEX_API_KEY", tt.key)
			t.Setenv("GRANTEX_API_URL", tt.url)
			t.Setenv("GRANTEX_DEVELOPER_ID", testConfig.Developer)
			t.Setenv("GUARD_URL", testConfig.URL)
			t.Setenv("ADDR", "localhost:0")
			err := start(t.Context())
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "gx_live_1")
		})
	}
}

func TestMetadata(t *testing.T) {
	s := newSite(t)
	resp, err := http.Get(s.guard.metadata().String())
	require.NoError(t, err)
	defer resp.Body.Close()
	require.JSONEq(t, `{"resource":"`+s.url+`","authorization_servers":["https://grantex.test"],"scopes_supported":["read","write"]}`, bodyOf(t, resp))
}

// TestReadTimeout checks that a body that doesn't come ends a request, and that a stream or
// a call may take longer than a body.
func TestReadTimeout(t *testing.T) {
	stay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(time.Hour):
		}
	})
	tests := []struct {
		name, request string
		handler       http.Handler
		after         time.Duration
	}{
		{"no body, rejected", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", http.NotFoundHandler(), 10 * time.Second},
		{"no body, read", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", requireScope(stay), 10 * time.Second},
		{"stream", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", requireScope(stay), time.Hour},
		{"call", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", requireScope(stay), time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Second) // net/http closes a connection half a second late
				client, server := net.Pipe()
				defer client.Close()
				l := &oneConn{conn: server, closed: make(chan struct{})}
				s := newServer(tt.handler)
				go s.Serve(l)
				defer s.Close()
				start := time.Now()
				io.WriteString(client, tt.request)
				_, err := bufio.NewReader(client).ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, tt.after, time.Since(start))
			})
		})
	}
}

// A oneConn is a net.Listener with a single connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (conn net.Conn, err error) {
	if conn, l.conn = l.conn, nil; conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestMethod checks how a call under way ends, for a tool that returns its context's
// cause.
func TestMethod(t *testing.T) {
	wait := func(ctx context.Context, _ string, _ mcp.Request) (mcp.Result, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	token := func(id string) *auth.TokenInfo {
		return &auth.TokenInfo{UserID: id, Scopes: []string{"read"}, Expiration: time.Now().Add(2 * time.Minute)}
	}
	tests := []struct {
		name  string
		extra func(id string) *mcp.RequestExtra
		tool  string
		end   bool // the grant, a minute after the call begins
		want  error
		after time.Duration
	}{
		{"no extra", func(string) *mcp.RequestExtra { return nil }, "read_note", false, errNoToken, 0},
		{"no token", func(string) *mcp.RequestExtra { return &mcp.RequestExtra{} }, "read_note", false, errNoToken, 0},
		{"no scope", func(id string) *mcp.RequestExtra { return &mcp.RequestExtra{TokenInfo: token(id)} }, "write_note", false, errNoScope, 0},
		{"unknown grant", func(string) *mcp.RequestExtra { return &mcp.RequestExtra{TokenInfo: token("grnt_0")} }, "read_note", false, grants.ErrEnded, 0},
		{"grant ends", func(id string) *mcp.RequestExtra { return &mcp.RequestExtra{TokenInfo: token(id)} }, "read_note", true, grants.ErrEnded, time.Minute},
		{"token expires", func(id string) *mcp.RequestExtra { return &mcp.RequestExtra{TokenInfo: token(id)} }, "read_note", false, errExpired, 2 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, cache := newCache(t)
				id := api.Create(grantexhook.GrantCreated{}).GrantID
				if tt.end {
					time.AfterFunc(time.Minute, func() { api.Revoke(id) })
				}
				start := time.Now()
				req := &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{Name: tt.tool}, Extra: tt.extra(id)}
				_, err := (&guard{cache: cache}).method(wait)(t.Context(), "tools/call", req)
				require.ErrorIs(t, err, tt.want)
				require.Equal(t, tt.after, time.Since(start))
			})
		})
	}
}

// TestMethodsWithoutScope checks that what isn't a tool needs to be named.
func TestMethodsWithoutScope(t *testing.T) {
	tests := []struct {
		method string
		req    mcp.Request
		want   bool
	}{
		{"initialize", &mcp.ServerRequest[*mcp.InitializeParams]{}, true},
		{"tools/list", &mcp.ListToolsRequest{}, true},
		{"notifications/initialized", &mcp.InitializedRequest{}, true},
		{"resources/read", &mcp.ReadResourceRequest{}, false},
		{"prompts/get", &mcp.GetPromptRequest{}, false},
		{"tools/call", nil, false},
		{"", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			require.Equal(t, tt.want, allowed(&auth.TokenInfo{Scopes: []string{"read"}}, tt.method, tt.req))
		})
	}
}

// TestStreamEnds checks that the context of a request ends with its grant and its token.
func TestStreamEnds(t *testing.T) {
	signer := newSigner(t)
	keys, err := keyfunc.NewJWKSetJSON(signer.keys(t, "key_1"))
	require.NoError(t, err)
	tests := []struct {
		name  string
		end   bool // the grant, after a minute
		want  error
		after time.Duration
	}{
		{"grant ends", true, grants.ErrEnded, time.Minute},
		{"token expires", false, errExpired, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, cache := newCache(t)
				api.Create(grantexhook.GrantCreated{GrantID: "grnt_1"})
				if tt.end {
					time.AfterFunc(time.Minute, func() { api.Revoke("grnt_1") })
				}
				start := time.Now()
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/mcp", nil)
				r.Header.Set("Authorization", "Bearer "+signer.sign(t, jwt.SigningMethodRS256, signer.key, "", nil))
				g := guard{url: &url.URL{}, tokens: &tokens{keys, jwt.NewParser(), testConfig.Developer}, cache: cache}
				var cause error
				g.protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					cause = context.Cause(r.Context())
				})).ServeHTTP(httptest.NewRecorder(), r)
				require.Equal(t, tt.want, cause)
				require.Equal(t, tt.after, time.Since(start))
			})
		})
	}
}

// newCache returns an API and a Cache of it that runs until the test ends.
func newCache(t *testing.T) (*hooktest.API, *grants.Cache) {
	t.Helper()
	api := hooktest.NewAPI()
	t.Cleanup(api.Close)
	cache, err := grants.New(&grantexapi.Client{APIKey: "key", HTTPClient: api.Client()}, nil)
	require.NoError(t, err)
	go cache.Run(t.Context())
	return api, cache
}
