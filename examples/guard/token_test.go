package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/stretchr/testify/require"
)

// TestRecordedTokens checks tokens that the real service signed, with its real keys.
func TestRecordedTokens(t *testing.T) {
	const developer = "dev_01M8CB3B73N2XGC6RVESQJMVXM"
	const issued, expires = 1795710627, 1795797027
	tests := []struct {
		name, recording, audience string
		now                       int64
		ok                        bool
	}{
		{"good", "audience", "https://api.example.com", issued, true},
		{"last second", "audience", "https://api.example.com", expires - 1, true},
		{"expired", "audience", "https://api.example.com", expires, false},
		{"another audience", "audience", "https://other.example.com", issued, false},
		{"no audience", "root", "https://api.example.com", issued, false},
		{"no audience, delegated", "delegated2", "https://api.example.com", issued, false},
	}
	keys, err := os.ReadFile("testdata/jwks.json")
	require.NoError(t, err)
	recorded := recordedTokens(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config{Issuer: "https://grantex.test", JWKS: serveKeys(t, keys).URL, Developer: developer, URL: tt.audience}
			tokens, err := newTokens(t.Context(), c, jwt.WithTimeFunc(func() time.Time { return time.Unix(tt.now, 0) }))
			require.NoError(t, err)
			info, err := tokens.verify(t.Context(), recorded[tt.recording], nil)
			if !tt.ok {
				require.Equal(t, auth.ErrInvalidToken, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, &auth.TokenInfo{
				UserID:     "grnt_01M8CB3BN6C72215CA2SABGXAG",
				Scopes:     []string{"read", "write"},
				Expiration: time.Unix(expires, 0),
			}, info)
		})
	}
}

func recordedTokens(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/grant-tokens.json")
	require.NoError(t, err)
	var recorded []struct{ Name, Token string }
	require.NoError(t, json.Unmarshal(text, &recorded))
	tokens := make(map[string]string)
	for _, r := range recorded {
		tokens[r.Name] = r.Token
	}
	return tokens
}

// TestVerify checks that a token with anything wrong is refused, and without a hint.
func TestVerify(t *testing.T) {
	s := newSigner(t)
	other := newSigner(t)
	claim := func(name string, value any) string { return s.sign(t, jwt.SigningMethodRS256, s.key, name, value) }
	good := s.sign(t, jwt.SigningMethodRS256, s.key, "", nil)
	parts := strings.Split(good, ".")
	public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&s.key.PublicKey)})

	tests := []struct {
		name, token string
		ok          bool
	}{
		{"good", good, true},
		{"audience among others", claim("aud", []string{"https://other.example.com", testConfig.URL}), true},
		{"no scopes", claim("scp", nil), true}, // it may call no tool
		{"another account", claim("dev", "dev_2"), false},
		{"no account", claim("dev", nil), false},
		{"dashboard session", claim("grnt", nil), false},
		{"empty grant", claim("grnt", ""), false},
		{"expired", claim("exp", time.Now().Add(-time.Second).Unix()), false},
		{"no expiry", claim("exp", nil), false},
		{"not valid yet", claim("nbf", time.Now().Add(time.Hour).Unix()), false},
		{"wrong audience", claim("aud", "https://other.example.com"), false},
		{"no audience", claim("aud", nil), false},
		{"empty audience", claim("aud", ""), false},
		{"wrong issuer", claim("iss", "https://other.example.com"), false},
		{"no issuer", claim("iss", nil), false},
		{"grant of another type", claim("grnt", 1), false},
		{"scopes of another type", claim("scp", "read"), false},
		{"alg none", s.sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", nil), false},
		{"HS256 with the public key", s.sign(t, jwt.SigningMethodHS256, public, "", nil), false},
		{"RS512", s.sign(t, jwt.SigningMethodRS512, s.key, "", nil), false},
		{"PS256", s.sign(t, jwt.SigningMethodPS256, s.key, "", nil), false},
		{"another key with this key's id", s.sign(t, jwt.SigningMethodRS256, other.key, "", nil), false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"changed claims", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"grnt":"grnt_2"}`)) + "." + parts[2], false},
		{"two parts", parts[0] + "." + parts[1], false},
		{"garbage", "garbage", false},
		{"empty", "", false},
	}
	c := testConfig
	c.JWKS = serveKeys(t, s.keys(t, "key_1")).URL
	tokens, err := newTokens(t.Context(), c)
	require.NoError(t, err)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			info, err := tokens.verify(t.Context(), tt.token, nil)
			if !tt.ok {
				require.Nil(t, info)
				require.Equal(t, auth.ErrInvalidToken, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "grnt_1", info.UserID)
		})
	}
}

// TestRotatedKey checks that a token signed with a new key passes at once, even if its
// client has hung up, and that forged key ids don't make the server fetch the keys again
// and again.
func TestRotatedKey(t *testing.T) {
	s := newSigner(t)
	c := testConfig
	keys := serveKeys(t, s.keys(t, "key_0"))
	c.JWKS = keys.URL
	tokens, err := newTokens(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, int32(1), keys.fetched.Load())

	keys.body.Store(s.keys(t, "key_1"))
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, err = tokens.verify(ctx, s.sign(t, jwt.SigningMethodRS256, s.key, "", nil), nil)
	require.NoError(t, err)
	require.Equal(t, int32(2), keys.fetched.Load())

	s.id = "forged"
	for range 100 {
		_, err := tokens.verify(t.Context(), s.sign(t, jwt.SigningMethodRS256, s.key, "", nil), nil)
		require.Equal(t, auth.ErrInvalidToken, err)
	}
	require.Equal(t, int32(2), keys.fetched.Load())
}

func TestNewTokensErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config)
		want   string
	}{
		{"no issuer", func(c *config) { c.Issuer = "" }, "GRANTEX_ISSUER"},
		{"no account", func(c *config) { c.Developer = "" }, "GRANTEX_DEVELOPER_ID"},
		{"no URL", func(c *config) { c.URL = "" }, "GUARD_URL"},
		{"no keys at this address", func(c *config) { c.JWKS += "/none" }, "404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig
			c.JWKS = serveKeys(t, newSigner(t).keys(t, "key_1")).URL
			tt.change(&c)
			_, err := newTokens(t.Context(), c)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

var testConfig = config{Issuer: "https://grantex.test", Developer: "dev_1", URL: "https://guard.example.com/mcp"}

// A signer signs tokens as Grantex does, with a key of its own.
type signer struct {
	key *rsa.PrivateKey
	id  string // of the key
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return &signer{key, "key_1"}
}

// sign returns a good token, but for one claim. The claim is missing if its value is nil.
func (s *signer) sign(t *testing.T, method jwt.SigningMethod, key any, claim string, value any) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": testConfig.Issuer, "aud": testConfig.URL, "sub": "user_1", "jti": "tok_1", "agt": "did:grantex:ag_1",
		"dev": testConfig.Developer, "grnt": "grnt_1", "scp": []string{"read"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	claims[claim] = value
	if value == nil {
		delete(claims, claim)
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = s.id
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

// keys returns the JWKS, in the form of testdata/jwks.json. The key has no "alg", so the
// parser alone decides which algorithms pass.
func (s *signer) keys(t *testing.T, id string) []byte {
	t.Helper()
	e := big.NewInt(int64(s.key.E)).Bytes()
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","n":%q,"e":%q,"use":"sig","kid":%q}]}`,
		base64.RawURLEncoding.EncodeToString(s.key.N.Bytes()), base64.RawURLEncoding.EncodeToString(e), id)
}

// A keyServer serves a JWKS, and counts how often it does.
type keyServer struct {
	*httptest.Server
	body    atomic.Value
	fetched atomic.Int32
}

func serveKeys(t *testing.T, body []byte) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.body.Store(body)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		s.fetched.Add(1)
		w.Write(s.body.Load().([]byte))
	}))
	t.Cleanup(s.Close)
	return s
}
