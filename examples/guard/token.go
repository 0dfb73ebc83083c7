package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/modelcontextprotocol/go-sdk/auth"
)

// claims are what a grant token says. Grantex shares its keys among all accounts, and signs
// dashboard sessions with them too, so a good signature alone proves little.
type claims struct {
	jwt.RegisteredClaims
	Developer string   `json:"dev"`  // the account
	Grant     string   `json:"grnt"` // a dashboard session has no grant
	Scopes    []string `json:"scp"`
}

// tokens verifies grant tokens offline.
type tokens struct {
	keys      keyfunc.Keyfunc
	parser    *jwt.Parser
	developer string
}

// newTokens fetches the keys. It fetches them again every hour until ctx ends, and, at most
// every five minutes, when a token names a key that's unknown.
func newTokens(ctx context.Context, c config, opts ...jwt.ParserOption) (*tokens, error) {
	if c.Issuer == "" || c.Developer == "" || c.URL == "" { // jwt would skip the check of an empty one
		return nil, errors.New("guard: GRANTEX_ISSUER, GRANTEX_DEVELOPER_ID or GUARD_URL is empty; set all three")
	}
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{c.JWKS}, keyfunc.Override{
		HTTPTimeout:               10 * time.Second,
		RateLimitWaitMax:          10 * time.Second, // what a token with an unknown key waits at most
		NoErrorReturnFirstHTTPReq: new(bool),        // a wrong address is an error now, not for each token
	})
	if err != nil {
		return nil, fmt.Errorf("guard: can't fetch the keys that verify tokens; check GRANTEX_API_URL: %w", err)
	}
	opts = append(opts,
		jwt.WithValidMethods([]string{"RS256"}), // never what the token asks for
		jwt.WithIssuer(c.Issuer),
		jwt.WithAudience(c.URL),
		jwt.WithExpirationRequired(),
	)
	return &tokens{keys, jwt.NewParser(opts...), c.Developer}, nil
}

// verify is an auth.TokenVerifier. The grant is the user, so the SDK binds each session to
// the grant it was opened with. The response doesn't say why a token is refused.
func (t *tokens) verify(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
	var c claims
	// Not with ctx: who hangs up must not cancel fetching the keys for all others.
	_, err := t.parser.ParseWithClaims(token, &c, t.keys.Keyfunc)
	switch {
	case err != nil:
	case c.Developer != t.developer:
		err = errors.New("the token is another account's")
	case c.Grant == "":
		err = errors.New("the token belongs to no grant")
	}
	if err != nil {
		slog.InfoContext(ctx, "token refused", "reason", err)
		return nil, auth.ErrInvalidToken
	}
	return &auth.TokenInfo{UserID: c.Grant, Scopes: c.Scopes, Expiration: c.ExpiresAt.Time}, nil
}
