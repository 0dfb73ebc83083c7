package hooktest_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/capture"
)

const (
	legacyName = "x-grantex-signature"
	v2Name     = "x-grantex-signature-v2"
	timeName   = "x-grantex-timestamp"
)

// A change turns a valid vector into another.
type change func(v *vector)

// A madeVector is the valid vector with changes.
type madeVector struct {
	name    string
	changes []change
}

// makeVectors returns all vectors. They are made from the recordings.
func makeVectors(t *testing.T) []vector {
	t.Helper()
	var all []vector
	for _, c := range capture.All() {
		if len(c.Body) > 1000 {
			continue // a large body would test no more and fill most of the file
		}
		v := vector{Expect: "ok", Secret: c.Secret, Headers: c.Headers, Body: c.Body}
		v.VerifyAt = v.timestamp(t)
		v.Name = "recorded: " + c.Name
		if slices.ContainsFunc(all, func(w vector) bool { return w.Name == v.Name }) {
			v.Name += ", another"
		}
		all = append(all, v)
	}
	base := baseVector(t)
	for _, list := range []struct {
		expect string
		made   []madeVector
	}{{"ok", rightVectors}, {"no_signature", unsignedVectors}, {"bad_signature", badVectors}, {"stale", staleVectors}} {
		for _, m := range list.made {
			v := base
			v.Name, v.Expect = m.name, list.expect
			for _, c := range m.changes {
				c(&v)
			}
			all = append(all, v)
		}
	}
	return all
}

// baseVector returns a recording with only the headers that matter.
func baseVector(t *testing.T) vector {
	t.Helper()
	c := capture.Named("awkward.html")
	v := vector{Secret: c.Secret, Body: c.Body}
	for _, kv := range c.Headers {
		if strings.HasPrefix(kv[0], "x-grantex-") {
			v.Headers = append(v.Headers, kv)
		}
	}
	v.VerifyAt = v.timestamp(t)
	return v
}

func (v *vector) timestamp(t *testing.T) int64 {
	t.Helper()
	seconds, err := strconv.ParseInt(v.get(timeName), 10, 64)
	require.NoError(t, err)
	return seconds
}

func (v *vector) get(name string) string {
	for _, kv := range v.Headers {
		if kv[0] == name {
			return kv[1]
		}
	}
	return ""
}

// mac signs as Grantex does. The recorded vectors check it.
func mac(key string, parts ...string) string {
	h := hmac.New(sha256.New, []byte(key))
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// The changes.

func all(changes ...change) []change { return changes }

func set(name, value string) change {
	return edit(name, func(string) string { return value })
}

func edit(name string, f func(value string) string) change {
	return func(v *vector) {
		v.Headers = slices.Clone(v.Headers)
		for i, kv := range v.Headers {
			if kv[0] == name {
				v.Headers[i][1] = f(kv[1])
			}
		}
	}
}

func add(name, value string) change {
	return func(v *vector) { v.Headers = append(slices.Clip(v.Headers), [2]string{name, value}) }
}

func twice(name string) change {
	return func(v *vector) { add(name, v.get(name))(v) }
}

func drop(names ...string) change {
	return func(v *vector) {
		v.Headers = slices.DeleteFunc(slices.Clone(v.Headers), func(kv [2]string) bool { return slices.Contains(names, kv[0]) })
	}
}

func later(seconds int64) change { return func(v *vector) { v.VerifyAt += seconds } }

func timestampRequired(v *vector) { v.RequireTimestamp = true }

func withSecret(s string) change { return func(v *vector) { v.Secret = s } }

func body(f func(body []byte) []byte) change {
	return func(v *vector) { v.Body = f(bytes.Clone(v.Body)) }
}

func bodyIs(text string) change {
	return body(func([]byte) []byte { return []byte(text) })
}

// sign replaces both signatures, using the vector's secret.
func sign(v *vector) { signWith(v.Secret)(v) }

func signWith(key string) change {
	return func(v *vector) {
		set(legacyName, mac(key, string(v.Body)))(v)
		set(v2Name, mac(key, v.get(timeName), ".", string(v.Body)))(v)
	}
}

// sentAt changes the timestamp and signs again.
func sentAt(timestamp string) change {
	return func(v *vector) {
		set(timeName, timestamp)(v)
		sign(v)
	}
}

func encodedAgain(b []byte) []byte {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func base64MAC(value string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(value, "sha256="))
	if err != nil {
		panic(err)
	}
	return "sha256=" + base64.StdEncoding.EncodeToString(raw)
}

func flipLast(value string) string {
	last := "0"
	if strings.HasSuffix(value, "0") {
		last = "1"
	}
	return value[:len(value)-1] + last
}

func unhex(digits string) string {
	raw, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func rename(name, to string) change {
	return func(v *vector) {
		v.Headers = slices.Clone(v.Headers)
		for i, kv := range v.Headers {
			if kv[0] == name {
				v.Headers[i][0] = to
			}
		}
	}
}
