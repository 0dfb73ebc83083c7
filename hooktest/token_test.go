package hooktest_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// A realToken is a token that Grantex issued.
type realToken struct {
	Name, Token string
	Claims      map[string]any
}

func realTokens(t *testing.T) (all []realToken) {
	t.Helper()
	text, err := os.ReadFile("testdata/grant-tokens.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	require.Len(t, all, 4)
	return all
}

// recordedToken returns the token that Grantex issued for a grant, or a text that is in
// no request.
func recordedToken(t *testing.T, grantID string) string {
	t.Helper()
	for _, token := range realTokens(t) {
		if token.Claims["grnt"] == grantID {
			return token.Token
		}
	}
	return "no token of " + grantID
}

// decode returns the header and the claims of a token as JSON.
func decode(t *testing.T, token string) (header, claims string) {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	for i, to := range []*string{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		require.NoError(t, err)
		*to = string(text)
	}
	return header, claims
}

// TestTokenLikeReal checks that tokens have the bytes of the real ones, except for their
// ID and the signature.
func TestTokenLikeReal(t *testing.T) {
	all := exchanges(t, "testdata/exchanges.jsonl")
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		for _, g := range recordedGrants(t, all) {
			time.Sleep(time.Until(g.IssuedAt))
			a.DeveloperID = g.DeveloperID
			g.create(a)
		}
		for _, real := range realTokens(t) {
			audience, _ := real.Claims["aud"].(string)
			got := a.Token(real.Claims["grnt"].(string), audience)
			wantHeader, wantClaims := decode(t, real.Token)
			header, claims := decode(t, got)
			require.Equal(t, wantHeader, header)
			require.Equal(t, masked(wantClaims), masked(claims))
			require.Equal(t, len(real.Token), len(got))
			require.Equal(t, got, a.Token(real.Claims["grnt"].(string), audience), "the same each time")
		}
	})
}

// publicKey returns the RSA key of the key set.
func publicKey(t *testing.T, a *hooktest.API) *rsa.PublicKey {
	t.Helper()
	resp, err := a.Client().Get("https://api.grantex.dev/.well-known/jwks.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var set struct {
		Keys []struct{ Kty, N, E, Kid string }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&set))
	require.Len(t, set.Keys, 2)
	key := set.Keys[0]
	require.Equal(t, "RSA", key.Kty)
	require.Equal(t, "grantex-2026-11", key.Kid)
	n, err := base64.RawURLEncoding.DecodeString(key.N)
	require.NoError(t, err)
	e, err := base64.RawURLEncoding.DecodeString(key.E)
	require.NoError(t, err)
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
}

// TestTokenVerifies checks the signature with the key set, also of another API, as all
// accounts of Grantex share it.
func TestTokenVerifies(t *testing.T) {
	a, _ := newAPI(t)
	other, _ := newAPI(t)
	require.NotEqual(t, a.DeveloperID, other.DeveloperID)
	token := a.Token(a.Create(grantexhook.GrantCreated{}).GrantID, "https://example.com")
	signed, encoded, _ := strings.Cut(token, ".")
	payload, encoded, _ := strings.Cut(encoded, ".")
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(signed + "." + payload))
	require.NoError(t, rsa.VerifyPKCS1v15(publicKey(t, a), crypto.SHA256, digest[:], signature))
	require.Equal(t, publicKey(t, a), publicKey(t, other))
	digest[0]++
	require.Error(t, rsa.VerifyPKCS1v15(publicKey(t, a), crypto.SHA256, digest[:], signature))
}

// TestTokenVerifiedOnline checks the API's answer for tokens that can't be used.
func TestTokenVerifiedOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		other, _ := newAPI(t)
		good := a.Create(grantexhook.GrantCreated{})
		revoked := a.Create(grantexhook.GrantCreated{})
		silent := a.Create(grantexhook.GrantCreated{})
		deleted := a.Create(grantexhook.GrantCreated{})
		short := a.Create(grantexhook.GrantCreated{ExpiresAt: time.Now().Add(time.Minute)})
		a.Revoke(revoked.GrantID)
		a.RevokeBy("anomaly.auto_revoked", silent.GrantID)
		a.DeleteAgent(deleted.AgentID)
		foreign := other.Create(grantexhook.GrantCreated{})
		token := a.Token(good.GrantID, "")
		header, rest, _ := strings.Cut(token, ".")
		payload, signature, _ := strings.Cut(rest, ".")
		tests := []struct {
			name, token string
			after       time.Duration
			want        bool
		}{
			{"active", token, 0, true},
			{"active, with an audience", a.Token(good.GrantID, "x"), 0, true},
			{"last second", a.Token(short.GrantID, ""), 59 * time.Second, true},
			{"expired", a.Token(short.GrantID, ""), time.Second, false},
			{"revoked", a.Token(revoked.GrantID, ""), 0, false},
			{"revoked without an event", a.Token(silent.GrantID, ""), 0, false},
			{"agent deleted", a.Token(deleted.GrantID, ""), 0, false},
			{"another account", other.Token(foreign.GrantID, ""), 0, false},
			{"another header", "e30." + payload + "." + signature, 0, false},
			{"another signature", header + "." + payload + ".AAAA", 0, false},
			{"not base64", header + ".*." + signature, 0, false},
			{"not JSON", header + ".AAAA." + signature, 0, false},
			{"empty", "", 0, false},
		}
		for _, tt := range tests {
			time.Sleep(tt.after)
			resp, err := post(a, "/v1/tokens/verify", `{"token":"`+tt.token+`"}`)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 200, resp.StatusCode)
			var got struct{ Valid bool }
			require.NoError(t, json.Unmarshal(body, &got))
			require.Equal(t, tt.want, got.Valid, tt.name)
		}
	})
}
