package hooktest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// TokenIssuer is the issuer of an API's tokens, in the claim "iss".
const TokenIssuer = "https://grantex.test"

// keyID is the ID of the key that signs tokens.
const keyID = "grantex-2026-11"

// signingKey belongs to all APIs, like that of all accounts of Grantex: a token of
// another account has a good signature, but another "dev".
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	return key
})

// otherKey is the public part of a key for another purpose. Grantex has one in its set.
var otherKey = sync.OnceValue(func() ed25519.PublicKey {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	return public
})

var base64url = base64.RawURLEncoding

// keySet is the response of /.well-known/jwks.json.
func keySet() any {
	type rsaKey struct {
		Kty string `json:"kty"`
		N   string `json:"n"`
		E   string `json:"e"`
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
	}
	type okpKey struct {
		Crv string `json:"crv"`
		X   string `json:"x"`
		Kty string `json:"kty"`
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
	}
	public := signingKey().PublicKey
	return struct {
		Keys []any `json:"keys"`
	}{[]any{
		rsaKey{"RSA", base64url.EncodeToString(public.N.Bytes()), base64url.EncodeToString(big.NewInt(int64(public.E)).Bytes()), "RS256", "sig", keyID},
		okpKey{"Ed25519", base64url.EncodeToString(otherKey()), "OKP", "EdDSA", "sig", "grantex-ed25519-2026-11"},
	}}
}

// claims has the claims of a grant token in Grantex's order.
type claims struct {
	Agent       string   `json:"agt"`
	Developer   string   `json:"dev"`
	Scopes      []string `json:"scp"`
	Grant       string   `json:"grnt"`
	ParentAgent string   `json:"parentAgt,omitempty"`
	ParentGrant string   `json:"parentGrnt,omitempty"`
	Depth       int      `json:"delegationDepth,omitempty"`
	Issuer      string   `json:"iss"`
	Subject     string   `json:"sub"`
	ID          string   `json:"jti"`
	IssuedAt    int64    `json:"iat"`
	ExpiresAt   int64    `json:"exp"`
	Audience    string   `json:"aud,omitempty"`
}

// Token returns the grant's token, a JWT signed with RS256. The key is at
// /.well-known/jwks.json, which [API.Client] can fetch. The claims are "grnt", "jti",
// "sub" (the principal), "agt" (the agent, as "did:grantex:" and its ID), "dev"
// ([API].DeveloperID), "scp", "iat", "exp", "iss" ([TokenIssuer]), and "aud" unless the
// audience is empty. A delegated grant's token also has "parentGrnt", "parentAgt" and
// "delegationDepth".
//
// Token works for a grant that has ended too, since tokens outlive their grants. It
// panics if there never was such a grant.
func (a *API) Token(grantID, audience string) string {
	return sign(a.grant(grantID).claims(audience))
}

func (g *grant) claims(audience string) claims {
	const did = "did:grantex:"
	c := claims{
		Agent: did + g.AgentID, Developer: g.DeveloperID, Scopes: g.Scopes, Grant: g.ID, Depth: g.depth,
		Issuer: TokenIssuer, Subject: g.PrincipalID, ID: g.tokenID, IssuedAt: g.IssuedAt.Unix(), ExpiresAt: g.ExpiresAt.Unix(), Audience: audience,
	}
	if g.parent != nil {
		c.ParentAgent, c.ParentGrant = did+g.parent.AgentID, g.parent.ID
	}
	return c
}

func sign(c claims) string {
	header := struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"RS256", keyID}
	signed := base64url.EncodeToString(mustEncode(header)) + "." + base64url.EncodeToString(mustEncode(c))
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, signingKey(), crypto.SHA256, digest[:])
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	return signed + "." + base64url.EncodeToString(signature)
}

func (a *API) verifyToken(r *http.Request) (int, any) {
	var ask struct {
		Token string `json:"token"`
	}
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest)).Decode(&ask)
	c, ok := a.verified(ask.Token)
	if err != nil || !ok {
		return http.StatusOK, struct {
			Valid bool `json:"valid"`
		}{}
	}
	return http.StatusOK, struct {
		Valid     bool      `json:"valid"`
		GrantID   string    `json:"grantId"`
		Scopes    []string  `json:"scopes"`
		Principal string    `json:"principal"`
		Agent     string    `json:"agent"`
		ExpiresAt time.Time `json:"expiresAt"`
	}{true, c.Grant, c.Scopes, c.Subject, c.Agent, time.Unix(c.ExpiresAt, 0)}
}

// verified reports whether the API made this token, it hasn't expired, and its grant is
// active. A token is compared with what sign makes of its claims, which never varies.
func (a *API) verified(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64url.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return c, false
	}
	a.mu.Lock()
	g := a.grants[c.Grant]
	ok = g != nil && g.active()
	a.mu.Unlock()
	return c, ok && time.Now().Unix() < c.ExpiresAt && token == sign(g.claims(c.Audience))
}
