package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/capture"
)

// verify runs the command with the body on standard input.
func verify(t *testing.T, secret, stdin string, args ...string) result {
	t.Helper()
	s := session{env: map[string]string{"GRANTEX_WEBHOOK_SECRET": secret}, stdin: stdin}
	return s.run(t.Context(), append([]string{"verify"}, args...)...)
}

func TestVerifyCaptures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "request")
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			timestamp := c.Header().Get("x-grantex-timestamp")
			flags := []string{"-signature", c.Header().Get("x-grantex-signature"), "-signature-v2", c.Header().Get("x-grantex-signature-v2"),
				"-timestamp", timestamp, "-now", timestamp}
			r := verify(t, c.Secret, string(c.Body), flags...)
			require.Equal(t, exitDone, r.status, r)
			require.Regexp(t, `^right: X-Grantex-Signature-V2 matches; signed 2026-11-23T\S+\n$`, r.stdout)

			require.NoError(t, os.WriteFile(file, c.Wire(), 0o600))
			require.Equal(t, r, verify(t, c.Secret, "", "-now", timestamp, "-request", file))
			require.Equal(t, r, verify(t, c.Secret, string(c.Wire()), "-any-time", "-request", "-"))

			r = verify(t, c.Secret, string(c.Body), "-signature", c.Header().Get("x-grantex-signature"))
			require.Equal(t, exitDone, r.status, r)
			require.Contains(t, r.stdout, "right: X-Grantex-Signature matches; it has no timestamp")
		})
	}
}

func mac(h func() hash.Hash, secret string, content string) []byte {
	m := hmac.New(h, []byte(secret))
	m.Write([]byte(content))
	return m.Sum(nil)
}

func sign(secret, content string) string {
	return "sha256=" + hex.EncodeToString(mac(sha256.New, secret, content))
}

const testBody = `{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"<é>","cascade":true}}`

func indented(t *testing.T, indent string) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, []byte(testBody), "", indent))
	return b.String()
}

func sorted(t *testing.T) string {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(testBody), &v))
	b, err := json.Marshal(v)
	require.NoError(t, err)
	require.NotEqual(t, testBody, string(b))
	return string(b)
}

// TestVerifyMistakes checks that each of the usual mistakes is named, and that
// neither the secret nor the right signature is shown.
func TestVerifyMistakes(t *testing.T) {
	const ts, s, b = "1795434598", testSecret, testBody
	v2 := sign(s, ts+"."+b)
	legacy := sign(s, b)
	raw, err := hex.DecodeString(s)
	require.NoError(t, err)
	inBase64 := func(content string) string { return base64.StdEncoding.EncodeToString(mac(sha256.New, s, content)) }
	escaped := strings.ReplaceAll(strings.ReplaceAll(b, "<", `\u003c`), ">", `\u003e`)
	tests := []struct {
		name                  string
		secret, body          string
		legacy, v2, timestamp string
		want                  string
	}{
		{"secret with a newline", s + "\n", b, "", v2, ts, "the secret has white space around it"},
		{"secret in quotes", `"` + s + `"`, b, "", v2, ts, "the secret has quotes around it"},
		{"secret decoded from hex", s, b, "", sign(string(raw), ts+"."+b), ts, "signed with the secret decoded from hex"},
		{"secret decoded from base64", s, b, sign(string(base64Decoded(t, s)), b), "", "", "signed with the secret decoded from base64"},
		{"secret in upper case", strings.ToUpper(s), b, "", v2, ts, "the secret is in upper case"},
		{"signed in upper case", s, b, sign(strings.ToUpper(s), b), "", "", "signed with the secret in upper case"},
		{"signed with echo", s, b, sign(s+"\n", b), "", "", "signed with a newline after the secret"},
		{"newline added", s, b + "\n", "", v2, ts, "has a newline at its end that was not signed"},
		{"CRLF added", s, b + "\r\n", legacy, "", "", "has a CRLF at its end that was not signed"},
		{"newline removed", s, b, "", sign(s, ts+"."+b+"\n"), ts, "signed with a newline at its end, which is gone"},
		{"CRLF removed", s, b, sign(s, b+"\r\n"), "", "", "signed with a CRLF at its end, which is gone"},
		{"line ends to CRLF", s, strings.ReplaceAll(indented(t, " "), "\n", "\r\n"), sign(s, indented(t, " ")), "", "", "line endings of the body have become CRLF"},
		{"line ends to LF", s, indented(t, " "), sign(s, strings.ReplaceAll(indented(t, " "), "\n", "\r\n")), "", "", "line endings of the body have become LF"},
		{"byte order mark", s, "\uFEFF" + b, legacy, "", "", "begins with a byte order mark"},
		{"indented", s, indented(t, "   "), "", v2, ts, "the body has more white space"},
		{"indentation gone", s, b, sign(s, indented(t, "  ")), "", "", "signed with indentation, which is gone"},
		{"four spaces gone", s, b, sign(s, indented(t, "    ")), "", "", "signed with indentation, which is gone"},
		{"tabs gone", s, b, sign(s, indented(t, "\t")), "", "", "signed with indentation, which is gone"},
		{"HTML escapes", s, escaped, "", v2, ts, `has HTML escapes (\u003c`},
		{"HTML escapes gone", s, b, sign(s, escaped), "", "", "signed with HTML escapes, which are gone"},
		{"fields sorted", s, sorted(t), "", v2, ts, "decoded and re-encoded"},
		{"ASCII alone", s, strings.ReplaceAll(b, "é", `\u00e9`), "", v2, ts, "decoded and re-encoded"},
		{"a string of JSON", s, fmt.Sprintf("%q", b), "", v2, ts, "the body is inside a JSON string"},
		{"base64 body", s, base64.StdEncoding.EncodeToString([]byte(b)) + "\n", "", v2, ts, "the body is in base64"},
		{"chunks in the body", s, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(b), b), "", v2, ts, "is still in chunked encoding"},
		{"empty body", s, "", "", v2, ts, "the body is empty"},
		{"legacy in V2", s, b, "", legacy, ts, "X-Grantex-Signature-V2 covers only the body"},
		{"legacy in V2 without a time", s, b, "", legacy, "", "X-Grantex-Signature-V2 covers only the body"},
		{"V2 in legacy", s, b, v2, "", ts, "X-Grantex-Signature covers the timestamp and the body"},
		{"no dot", s, b, "", sign(s, ts+b), ts, "the dot between the timestamp and the body was not signed"},
		{"no dot in legacy", s, b, sign(s, ts+b), "", ts, "the dot between the timestamp and the body was not signed; and X-Grantex-Signature covers"},
		{"milliseconds", s, b, "", sign(s, ts+"000."+b), ts + "000", "X-Grantex-Timestamp is in milliseconds"},
		{"milliseconds, seconds signed", s, b, "", v2, ts + "123", "is in milliseconds, but seconds were signed"},
		{"seconds, milliseconds signed", s, b, "", sign(s, ts+"000."+b), ts, "milliseconds were signed"},
		{"zeros", s, b, "", v2, "0" + ts, "has zeros or a sign before its digits"},
		{"no timestamp", s, b, "", v2, "", "X-Grantex-Signature-V2 without X-Grantex-Timestamp"},
		{"no timestamp, right legacy", s, b, legacy, v2, "", "X-Grantex-Signature-V2 without X-Grantex-Timestamp"},
		{"timestamp changed", s, b, legacy, v2, "1795434599", "X-Grantex-Signature matches, but X-Grantex-Signature-V2, which decides, doesn't"},
		{"base64", s, b, "", "sha256=" + inBase64(ts+"."+b), ts, "X-Grantex-Signature-V2 is in base64"},
		{"base64 without a prefix", s, b, inBase64(b), "", "", "lacks the prefix sha256=; and X-Grantex-Signature is in base64"},
		{"SHA-512 in base64", s, b, base64.StdEncoding.EncodeToString(mac(sha512.New, s, b)), "", "",
			"lacks the prefix sha256=; and X-Grantex-Signature is in base64; and X-Grantex-Signature has the length of SHA-512"},
		{"a prefix alone", s, b, "v1=", "", "", "has a prefix other than sha256=; and X-Grantex-Signature has 0 hex digits"},
		{"no prefix", s, b, "", strings.TrimPrefix(v2, "sha256="), ts, "X-Grantex-Signature-V2 lacks the prefix sha256="},
		{"another prefix", s, b, "v1=" + strings.TrimPrefix(legacy, "sha256="), "", "", "has a prefix other than sha256="},
		{"in quotes", s, b, `"` + legacy + `"`, "", "", "has quotes or white space around it"},
		{"SHA-1", s, b, "sha1=" + hex.EncodeToString(mac(sha1.New, s, b)), "", "", "prefix other than sha256=; and X-Grantex-Signature has the length of SHA-1"},
		{"SHA-384", s, b, "sha256=" + hex.EncodeToString(mac(sha512.New384, s, b)), "", "", "has the length of SHA-384"},
		{"SHA-512", s, b, "", "sha256=" + hex.EncodeToString(mac(sha512.New, s, ts+"."+b)), ts, "has the length of SHA-512"},
		{"SHA-512 of something else", s, b, "sha256=" + strings.Repeat("ab", 64), "", "", "has the length of SHA-512"},
		{"too short", s, b, legacy[:70], "", "", "isn't 64 hex digits (its length is 63)"},
		{"too short by two", s, b, legacy[:69], "", "", "has 62 hex digits instead of 64"},
		{"no digits", s, b, "sha256=", "", "", "X-Grantex-Signature has 0 hex digits instead of 64"},
		{"no hex", s, b, "sha256=" + strings.Repeat("?", 64), "", "", "isn't 64 hex digits (its length is 64)"},
		{"two mistakes", s + "\n", b + "\n", "", v2, ts, "the secret has white space around it; and the body has a newline at its end"},
		{"another secret", "s0mething else", b, "", v2, ts, "the signature doesn't match this"},
		{"another body", s, strings.Replace(b, "true", "false", 1), "", v2, ts, "the signature doesn't match this"},
		{"a placeholder for the secret", "[redacted]", b, "", v2, ts, "is the placeholder"},
		{"right, for a secret that can't be one", s + " ", b, sign(s+" ", b), "", "", "white space around it; trim it"},
		{"nothing", s, b, "", "", "", "there is no signature header"},
		{"only a timestamp", s, b, "", "", ts, "there is no signature header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			for flag, value := range map[string]string{"-signature": tt.legacy, "-signature-v2": tt.v2, "-timestamp": tt.timestamp} {
				if value != "" {
					args = append(args, flag, value)
				}
			}
			r := verify(t, tt.secret, tt.body, append(args, "-now", ts)...)
			require.Equal(t, exitFailed, r.status, r)
			require.Empty(t, r.stderr)
			require.Contains(t, r.stdout, tt.want)
			require.Regexp(t, `^wrong: [^\n]+\nhint: [^\n]+\n$`, r.stdout)
			for _, secret := range []string{tt.secret, s, v2[7:], legacy[7:]} {
				if secret == "[redacted]" {
					continue
				}
				require.NotContains(t, strings.ToLower(r.stdout), strings.ToLower(secret))
			}
		})
	}
}

func base64Decoded(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return b
}

func TestVerifyClock(t *testing.T) {
	const ts = "1795434598"
	v2 := sign(testSecret, ts+"."+testBody)
	tests := []struct {
		name, now string
		status    int
		want      string
	}{
		{"just in time", "1795434898", exitDone, "right"},
		{"a second late", "1795434899", exitFailed, "was made 5m1s before 2026-11-23T11:54:59Z; the tolerance is 5m0s"},
		{"just ahead", "1795434298", exitDone, "right"},
		{"a second ahead", "1795434297", exitFailed, "was made 5m1s after 2026-11-23T11:44:57Z; the tolerance is 5m0s"},
		{"as RFC 3339", "2026-11-23T13:49:58+02:00", exitDone, "right"},
		{"1970", "0", exitFailed, "498731h49m58s after"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := verify(t, testSecret, testBody, "-signature-v2", v2, "-timestamp", ts, "-now", tt.now)
			require.Equal(t, tt.status, r.status, r)
			require.Contains(t, r.stdout, tt.want)
		})
	}
	r := verify(t, testSecret, testBody, "-signature-v2", v2, "-timestamp", ts)
	require.Equal(t, exitFailed, r.status, "the machine's clock decides")
	r = verify(t, testSecret, testBody, "-signature-v2", sign(testSecret, "9223372036854775807."+testBody), "-timestamp", "9223372036854775807", "-any-time")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.stdout, "is in milliseconds")
	r = verify(t, testSecret, testBody, "-signature-v2", v2, "-timestamp", "9223372036854775807", "-json")
	require.NotContains(t, r.stdout, "sentAt", "it's not a time")
}

func TestVerifyJSON(t *testing.T) {
	const ts = "1795434598"
	v2 := sign(testSecret, ts+"."+testBody)
	var out strings.Builder
	for _, args := range [][]string{
		{"-signature-v2", v2, "-timestamp", ts, "-now", "1795434600"},
		{"-signature-v2", v2, "-timestamp", ts, "-now", "1795438200"},
		{"-signature-v2", v2, "-timestamp", ts, "-now", "1795434000", "-signature", "x"},
		{"-signature", sign(testSecret, testBody)},
		{"-signature", v2, "-timestamp", ts},
		{},
	} {
		out.WriteString(verify(t, testSecret, testBody, append(args, "-json")...).String())
	}
	golden(t, "verify-json", out.String())
}

// TestVerifyTimestampHint checks that a bad timestamp isn't blamed on the secret.
func TestVerifyTimestampHint(t *testing.T) {
	for _, args := range [][]string{nil, {"-timestamp", "soon"}} {
		r := verify(t, testSecret, testBody, append(args, "-signature-v2", sign(testSecret, "1795434598."+testBody))...)
		require.Equal(t, exitFailed, r.status)
		require.Contains(t, r.stdout, "\nhint: X-Grantex-Timestamp holds whole Unix seconds: verify it as it was sent\n")
	}
	r := verify(t, "another", testBody, "-signature", sign(testSecret, testBody))
	require.Contains(t, r.stdout, "\nhint: no usual mistake explains it")
	r = verify(t, testSecret, "\n", "-signature", sign(testSecret, testBody))
	require.Contains(t, r.stdout, "\nhint: the body is what was sent after the headers")
}

func TestVerifyHeaderTwice(t *testing.T) {
	legacy := sign(testSecret, testBody)
	r := verify(t, testSecret, testBody, "-signature", legacy, "-signature", legacy)
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.stdout, "wrong: X-Grantex-Signature appears more than once")
}

// TestVerifyTrimsHeaders checks that white space from a paste does no harm.
func TestVerifyTrimsHeaders(t *testing.T) {
	r := verify(t, testSecret, testBody, "-signature", " "+sign(testSecret, testBody)+"\n")
	require.Equal(t, exitDone, r.status, r)
}

// TestVerifyIsBounded checks that a hostile request costs little.
func TestVerifyIsBounded(t *testing.T) {
	r := verify(t, testSecret, strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000), "-signature", sign(testSecret, "x"))
	require.Equal(t, exitFailed, r.status)
	var b strings.Builder
	b.WriteString("POST / HTTP/1.1\r\n")
	for i := range 400 {
		fmt.Fprintf(&b, "x-grantex-signature: %s\r\n", sign(fmt.Sprint(i), "x"))
	}
	b.WriteString("\r\n" + strings.Repeat("x", 100_000))
	r = verify(t, testSecret, b.String(), "-request", "-")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.stdout, "wrong: X-Grantex-Signature appears more than once")
	require.Less(t, len(r.stdout), 1000)
}

// TestVerifyRequest checks how a saved request that can't be read is reported.
func TestVerifyRequest(t *testing.T) {
	r := verify(t, testSecret, "Content-Length: 3\n\nab", "-request", "-")
	require.Equal(t, exitFailed, r.status)
	require.Equal(t, "grantexhook: the request is incomplete: the body has 2 bytes, but its Content-Length is 3\nhint: was the whole request saved?\n", r.stderr)
	r = verify(t, testSecret, testBody, "-request", "-")
	require.Equal(t, exitUsage, r.status)
	require.Regexp(t, "^grantexhook: this is not a saved HTTP/1.1 request: [^\n]+\nhint: a body alone [^\n]+\n$", r.stderr)
	r = verify(t, testSecret, "> POST /hook HTTP/2\n> x-grantex-signature: "+sign(testSecret, testBody)+"\n>\n{ [5 bytes data]\n"+testBody, "-request", "-")
	require.Equal(t, exitDone, r.status, r)
}
