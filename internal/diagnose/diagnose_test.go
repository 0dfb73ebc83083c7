package diagnose_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/diagnose"
)

const (
	testSecret = "4542b7f9be422960094f18d8373130cde8aab2e28346bc29"
	testTime   = "1795434598"
	testBody   = `{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"<é>","cascade":true}}`
)

func sign(secret, content string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(content))
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// signed returns the headers of a body that Grantex signed.
func signed(body string) http.Header {
	return http.Header{
		grantexhook.HeaderSignature:   {sign(testSecret, body)},
		grantexhook.HeaderSignatureV2: {sign(testSecret, testTime+"."+body)},
		grantexhook.HeaderTimestamp:   {testTime},
	}
}

func texts(found []diagnose.Mistake) (all []string) {
	for _, m := range found {
		all = append(all, m.Text)
	}
	return all
}

func inBase64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func inUTF16(text string, order binary.ByteOrder) string {
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune("\uFEFF" + text)) {
		binary.Write(&b, order, unit)
	}
	return b.String()
}

// An example is a delivery with a mistake, or several.
type example struct {
	name   string
	signed string // by Grantex
	value  string // that is verified
	want   []string
}

// secretExamples have a mistake in the secret.
func secretExamples() []example {
	const s = testSecret
	const isBase64 = "the secret is the base64 of the right one, like the data of a Kubernetes Secret"
	const space, quotes, named = "the secret has white space around it", "the secret has quotes around it", "the secret has a name before it, like NAME="
	return []example{
		{"data of a Kubernetes Secret", testBody, inBase64(s), []string{isBase64}},
		{"data with a newline in it", testBody, inBase64(s + "\n"), []string{isBase64, space}},
		{"data with a newline after it", testBody, inBase64(s) + "\n", []string{isBase64}},
		{"data in lines", testBody, inBase64(s)[:40] + "\n" + inBase64(s)[40:], []string{isBase64}},
		{"data without padding", testBody, strings.TrimRight(inBase64(s+"\n"), "="), []string{isBase64, space}},
		{"data twice", testBody, inBase64(inBase64(s)), []string{isBase64, isBase64}},
		{"hex", testBody, hex.EncodeToString([]byte(s)), []string{"the secret is the hex of the right one"}},
		{"byte order mark", testBody, "\uFEFF" + s, []string{"the secret begins with a byte order mark"}},
		{"byte order mark and newline", testBody, "\uFEFF" + s + "\r\n", []string{space, "the secret begins with a byte order mark"}},
		{"zero width space", testBody, s + "\u200B", []string{"the secret has characters that don't print"}},
		{"in the middle", testBody, s[:9] + "\u00AD" + s[9:], []string{"the secret has characters that don't print"}},
		{"no-break space", testBody, s + "\u00A0", []string{space}},
		{"literal newline", testBody, s + `\n`, []string{`the secret ends in a literal \n`}},
		{"literal CRLF", testBody, s + `\r\n`, []string{`the secret ends in a literal \n`}},
		{"quotes and literal newline", testBody, `"` + s + `\n"`, []string{quotes, `the secret ends in a literal \n`}},
		{"curly quotes", testBody, "“" + s + "”", []string{quotes}},
		{"backquotes", testBody, "`" + s + "`", []string{quotes}},
		{"NAME=", testBody, "GRANTEX_WEBHOOK_SECRET=" + s, []string{named}},
		{"export", testBody, `export GRANTEX_WEBHOOK_SECRET="` + s + `"`, []string{named, quotes}},
		{"YAML", testBody, "secret: " + s, []string{named}},
		{"Dockerfile", testBody, "ENV SECRET=" + s, []string{named}},
		{"flag", testBody, "--secret=" + s, []string{named}},
		{"assignment", testBody, `secret = "` + s + `",`, []string{named, "the secret has a comma or semicolon after it", quotes}},
		{"JSON", testBody, `"` + s + `",`, []string{"the secret has a comma or semicolon after it", quotes}},
		{"comment", testBody, s + " # of wh_1", []string{"the secret has a comment after it"}},
		{"percent", testBody, strings.ReplaceAll(url.QueryEscape(s), "4", "%34"), []string{"the secret is percent-encoded"}},
		{"UTF-16", testBody, inUTF16(s, binary.LittleEndian), []string{"the secret is in UTF-16"}},
		{"UTF-16 with a newline", testBody, inUTF16(s+"\r\n", binary.BigEndian), []string{"the secret is in UTF-16", space}},
		{"upper case in base64", testBody, inBase64(strings.ToUpper(s)), []string{isBase64, "the secret is in upper case"}},
		{"data with a byte order mark in it", testBody, inBase64("\uFEFF" + s), []string{isBase64, "the secret begins with a byte order mark"}},
	}
}

func TestExplainSecrets(t *testing.T) {
	for _, tt := range secretExamples() {
		t.Run(tt.name, func(t *testing.T) {
			require.ElementsMatch(t, tt.want, texts(diagnose.Explain(signed(testBody), []byte(testBody), tt.value)))
		})
	}
}

func compressed(t *testing.T, w io.WriteCloser, b *bytes.Buffer, text string) string {
	t.Helper()
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func gzipped(t *testing.T, text string) string {
	var b bytes.Buffer
	return compressed(t, gzip.NewWriter(&b), &b, text)
}

func zlibbed(t *testing.T, text string) string {
	var b bytes.Buffer
	return compressed(t, zlib.NewWriter(&b), &b, text)
}

func indented(t *testing.T, text, indent string) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, []byte(text), "", indent))
	return b.String()
}

// bodyExamples have a body other than the signed one.
func bodyExamples(t *testing.T) []example {
	const b, mark = testBody, "\uFEFF"
	const (
		newline, crlf = "the body has a newline at its end that was not signed", "the body has a CRLF at its end that was not signed"
		isCRLF, isLF  = "the line endings of the body have become CRLF", "the line endings of the body have become LF"
		hasMark       = "the body begins with a byte order mark"
		space         = "the body has more white space than what was signed, which is compact"
		noIndent      = "the body was signed with indentation, which is gone"
		noNewline     = "the body was signed with a newline at its end, which is gone"
		isGzip        = "the body is compressed with gzip"
		isBase64      = "the body is in base64"
		isLatin1      = "the body is in Latin-1 or Windows-1252, and UTF-8 was signed"
		wasLatin1     = "the body was read as Latin-1 and written as UTF-8"
		isUTF16       = "the body is in UTF-16, and UTF-8 was signed"
		isLambda      = "the body is in the field body of an object, as in an AWS Lambda event"
		again         = "the body was decoded and re-encoded, with other escapes or another order of fields"
	)
	pretty := indented(t, b, "  ")
	windows := strings.ReplaceAll(b, "é", "€ “é”")
	return []example{
		{"gzip", b, gzipped(t, b), []string{isGzip}},
		{"deflate", b, zlibbed(t, b), []string{"the body is compressed with zlib, which HTTP calls deflate"}},
		{"gzip in base64", b, inBase64(gzipped(t, b)), []string{isBase64, isGzip}},
		{"gzip with a newline in it", b, gzipped(t, b+"\n"), []string{isGzip, newline}},
		{"base64 for URLs", b + "??>>", base64.RawURLEncoding.EncodeToString([]byte(b + "??>>")), []string{isBase64}},
		{"base64 in lines", b, inBase64(b)[:76] + "\n" + inBase64(b)[76:], []string{isBase64}},
		{"Latin-1", b, strings.ReplaceAll(b, "é", "\xe9"), []string{isLatin1}},
		{"Windows-1252", windows, strings.ReplaceAll(windows, "€ “é”", "\x80 \x93\xe9\x94"), []string{isLatin1}},
		{"Latin-1 and newline", b, strings.ReplaceAll(b, "é", "\xe9") + "\n", []string{newline, isLatin1}},
		{"read as Latin-1", b, strings.ReplaceAll(b, "é", "Ã©"), []string{wasLatin1}},
		{"read as Windows-1252", windows, strings.ReplaceAll(windows, "€ “é”", "â‚¬ â€œÃ©â€\u009d"), []string{wasLatin1}},
		{"UTF-16", b, inUTF16(b, binary.LittleEndian), []string{isUTF16}},
		{"UTF-16, big", b, inUTF16(b, binary.BigEndian), []string{isUTF16}},
		{"UTF-16 and CRLF", b, inUTF16(b+"\r\n", binary.LittleEndian), []string{isUTF16, crlf}},
		{"pretty with a newline", b, pretty + "\n", []string{space}},
		{"pretty with a newline, signed", pretty + "\n", b, []string{noIndent, noNewline}},
		{"pretty, signed, with a newline", pretty, pretty + "\n", []string{newline}},
		{"byte order mark and CRLF at the end", b, mark + b + "\r\n", []string{crlf, hasMark}},
		{"byte order mark and CRLF", pretty, mark + strings.ReplaceAll(pretty, "\n", "\r\n"), []string{isCRLF, hasMark}},
		{"byte order mark, pretty", b, mark + pretty, []string{hasMark, space}},
		{"byte order mark gone", mark + b, b, []string{"the body was signed with a byte order mark, which is gone"}},
		{"LF and a newline", strings.ReplaceAll(pretty, "\n", "\r\n"), pretty + "\n", []string{newline, isLF}},
		{"ASCII and a newline", b, strings.ReplaceAll(b, "é", `\u00e9`) + "\n", []string{again}},
		{"a string in base64", b, inBase64(fmt.Sprintf("%q", b)), []string{isBase64, "the body is inside a JSON string"}},
		{"a form", b, url.QueryEscape(b), []string{"the body is percent-encoded, like a form"}},
		{"a form's field", b, "payload=" + url.QueryEscape(b), []string{"the body is percent-encoded, like a form"}},
		{"Lambda", b, fmt.Sprintf(`{"version":"2.0","body":%q,"isBase64Encoded":false}`, b), []string{isLambda}},
		{"Lambda in base64", b, fmt.Sprintf(`{"isBase64Encoded":true,"body":%q}`, inBase64(b)), []string{isLambda}},
	}
}

func TestExplainBodies(t *testing.T) {
	for _, tt := range bodyExamples(t) {
		t.Run(tt.name, func(t *testing.T) {
			require.ElementsMatch(t, tt.want, texts(diagnose.Explain(signed(tt.signed), []byte(tt.value), testSecret)))
		})
	}
}

// TestExplainPairs checks that the mistakes are right if both are wrong: every
// single mistake in the secret with every single mistake in the body.
func TestExplainPairs(t *testing.T) {
	for _, body := range bodyExamples(t) {
		t.Run(body.name, func(t *testing.T) {
			for _, secret := range secretExamples() {
				want := slices.Concat(secret.want, body.want)
				if len(want) > 2 {
					continue // which takes long
				}
				require.ElementsMatch(t, want, texts(diagnose.Explain(signed(body.signed), []byte(body.value), secret.value)), secret.name)
			}
		})
	}
}

// TestExplainTogether checks that the secret, the body and a header may all be wrong.
func TestExplainTogether(t *testing.T) {
	h := signed(testBody)
	h.Set(grantexhook.HeaderSignatureV2, strings.TrimPrefix(h.Get(grantexhook.HeaderSignatureV2), "sha256="))
	found := diagnose.Explain(h, []byte("\uFEFF"+testBody+"\n"), inBase64(testSecret+"\n"))
	require.Len(t, found, 5, "%v", found)
	require.Equal(t, []diagnose.Kind{diagnose.SecretEncoded, diagnose.SecretWrapped, diagnose.BodyEnd, diagnose.BodyChanged, diagnose.HeaderForm},
		[]diagnose.Kind{found[0].Kind, found[1].Kind, found[2].Kind, found[3].Kind, found[4].Kind})
}

func TestExplainFindsNothing(t *testing.T) {
	require.Empty(t, diagnose.Explain(signed(testBody), []byte(testBody), "another"))
	require.Empty(t, diagnose.Explain(signed(testBody), []byte(testBody), testSecret), "the body is right")
	require.Empty(t, diagnose.Explain(http.Header{}, nil, ""))
	require.Empty(t, diagnose.Explain(signed(strings.ReplaceAll(testBody, "é", "Ã©")), []byte(testBody), testSecret), "the body isn't Latin-1")
}

// TestExplainIsBounded checks that no input costs much.
func TestExplainIsBounded(t *testing.T) {
	diagnose.LimitWork(t, 32<<20)
	many := http.Header{}
	for i := range 400 {
		many.Add(grantexhook.HeaderSignature, sign(fmt.Sprint(i), ""))
		many.Add(grantexhook.HeaderSignatureV2, sign(fmt.Sprint(i), ""))
	}
	many.Set(grantexhook.HeaderTimestamp, testTime)
	long := http.Header{grantexhook.HeaderSignatureV2: {"sha256=" + strings.Repeat("ab", 1<<20)}, grantexhook.HeaderTimestamp: {strings.Repeat("1", 1<<20)}}
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	tests := []struct {
		name   string
		header http.Header
		body   string
		secret string
	}{
		{"deep arrays", signed("x"), deep, testSecret},
		{"deep objects", signed("x"), strings.Repeat(`{"a":`, 9_999) + "1" + strings.Repeat("}", 9_999), testSecret},
		{"deep and wide", signed("x"), strings.Repeat("[", 1_000) + "0" + strings.Repeat(",0", 400_000) + strings.Repeat("]", 1_000), testSecret},
		{"many signatures of JSON", many, `{"id":"1","type":"grant.revoked","data":{"a":"` + strings.Repeat("<é", 50_000) + `"}}`, testSecret},
		{"long headers", long, testBody, testSecret},
		{"gzip bomb", signed("x"), gzipped(t, strings.Repeat("\x00", 16<<20)), testSecret},
		{"long secret", signed("x"), testBody, strings.Repeat("ab", 1<<15)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			diagnose.Explain(tt.header, []byte(tt.body), tt.secret)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			require.Less(t, took, 10*time.Second, "far more than it takes on a slow machine")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(128<<20))
		})
	}
}

func FuzzExplain(f *testing.F) {
	diagnose.LimitWork(f, 1<<20)
	for _, v := range []string{"", "sha256=", "sha256=ab", "x=", "=", `"`, strings.Repeat("A", 44), sign(testSecret, testBody)} {
		f.Add(v, testTime, []byte(testBody), testSecret)
		f.Add(v, "-1", []byte(`"`), "\uFEFFA=b")
	}
	f.Fuzz(func(t *testing.T, value, timestamp string, body []byte, secret string) {
		h := http.Header{}
		h.Set(grantexhook.HeaderSignatureV2, value)
		h.Set(grantexhook.HeaderTimestamp, timestamp)
		for _, m := range diagnose.Explain(h, body, secret) {
			require.NotEmpty(t, m.Text)
		}
	})
}
