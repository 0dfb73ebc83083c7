package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grants"
)

var (
	errNoToken = errors.New("guard: the request has no verified token")
	errNoScope = errors.New("guard: the token has no scope for this")
	errExpired = errors.New("guard: the token has expired")
)

// endpoint is what GUARD_URL may be. http.ServeMux gives other paths a meaning, or panics.
var endpoint = regexp.MustCompile(`^https?://[\w.:\[\]-]+(/[\w~-][\w.~-]*)+$`)

// A guard is an MCP server whose tools and streams need a token of an active grant.
type guard struct {
	url    *url.URL
	issuer string
	tokens *tokens
	cache  *grants.Cache
}

func newGuard(ctx context.Context, c config) (*guard, error) {
	cache, err := grants.New(c.API, nil) // first, since it doesn't quote a key that's in GRANTEX_API_URL
	if err != nil {
		return nil, err
	}
	tokens, err := newTokens(ctx, c)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil || !endpoint.MatchString(c.URL) {
		return nil, fmt.Errorf("guard: GUARD_URL %q is not the URL of an endpoint; use one like https://guard.example.com/mcp", c.URL)
	}
	return &guard{u, c.Issuer, tokens, cache}, nil
}

// handler serves MCP, the metadata that says where agents get tokens, and webhooks unless
// the secret is empty.
func (g *guard) handler(webhookSecret string) (http.Handler, error) {
	s := mcp.NewServer(&mcp.Implementation{Name: "guard", Version: "1.0.0"}, nil)
	new(note).addTools(s)
	s.AddReceivingMiddleware(g.method)
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
		SessionTimeout:             10 * time.Minute, // nothing else closes the session of an ended grant
		DisableLocalhostProtection: true,             // a proxy on this machine passes another Host; a web page has no token
	})
	mux := http.NewServeMux()
	mux.Handle(g.url.Path, g.protect(h))
	mux.Handle(g.metadata().Path, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource:             g.url.String(),
		AuthorizationServers: []string{g.issuer},
		ScopesSupported:      []string{"read", "write"},
	}))
	if webhookSecret == "" { // the event stream is faster, but five processes use it up
		return mux, nil
	}
	v, err := grantexhook.NewVerifier(webhookSecret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		return nil, err
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, g.cache.Revoked)
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))
	return mux, nil
}

// metadata is where RFC 9728 puts it.
func (g *guard) metadata() *url.URL {
	return &url.URL{Scheme: g.url.Scheme, Host: g.url.Host, Path: "/.well-known/oauth-protected-resource" + g.url.Path}
}

// protect passes a request with a good token of an active grant to next. The request's
// context ends with the grant or the token, and an open stream with it.
func (g *guard) protect(next http.Handler) http.Handler {
	next = g.cache.Middleware(func(r *http.Request) (string, error) {
		return auth.TokenInfoFromContext(r.Context()).UserID, nil
	})(requireScope(next))
	next = untilExpiry(next)
	return auth.RequireBearerToken(g.tokens.verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: g.metadata().String(),
	})(next)
}

func untilExpiry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithDeadlineCause(r.Context(), auth.TokenInfoFromContext(r.Context()).Expiration, errExpired)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// method does for MCP's methods what protect does for requests. The SDK detaches a method
// from its request, so a call under way would outlive both.
func (g *guard) method(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		extra := req.GetExtra()
		if extra == nil || extra.TokenInfo == nil {
			return nil, errNoToken
		}
		token := extra.TokenInfo // ctx may have an older token: the session's first
		if !allowed(token, method, req) {
			return nil, errNoScope
		}
		ctx, cancel := context.WithDeadlineCause(ctx, token.Expiration, errExpired)
		defer cancel()
		ctx, end, err := g.cache.Context(ctx, token.UserID)
		defer end()
		if err != nil {
			return nil, err
		}
		return next(ctx, method, req)
	}
}
