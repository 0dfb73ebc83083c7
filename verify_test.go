package grantexhook_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

const (
	secret         = "4542b7f9be422960094f18d8373130cde8aab2e28346bc29"
	previousSecret = "41a029f3d41d6dad902ae16b35b6cdfa89b1ec951a839d47"
	otherSecret    = "72bbf4846fe1ffbd20770937215c085ef3f6a7c457eb254d"
)

var payload = []byte(`{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:57.129Z","data":{"grantId":"grnt_1","cascade":false}}`)

// signed returns the headers that Grantex sends with payload.
func signed(secret string, at time.Time) http.Header {
	h := http.Header{}
	grantexhook.Sign(h, secret, payload, at)
	return h
}

func without(h http.Header, names ...string) http.Header {
	for _, name := range names {
		h.Del(name)
	}
	return h
}

func with(h http.Header, name string, values ...string) http.Header {
	h[name] = values
	return h
}

// legacy returns the headers that senders older than 2026-08-13 send.
func legacy(secret string) http.Header {
	return without(signed(secret, time.Now()), grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp)
}

func TestVerifyCaptures(t *testing.T) {
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(c.ReceivedAt))
				v := newVerifier(t, c.Secret, &grantexhook.Options{RequireTimestamp: true})
				require.NoError(t, v.Verify(c.Header(), c.Body))
				require.True(t, grantexhook.VerifySignature(c.Body, c.Header().Get(grantexhook.HeaderSignature), c.Secret))

				h := without(c.Header(), grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp)
				require.NoError(t, newVerifier(t, c.Secret, nil).Verify(h, c.Body))
				require.ErrorIs(t, v.Verify(h, c.Body), grantexhook.ErrNoSignature)

				other := newVerifier(t, "another "+c.Secret, nil)
				require.ErrorIs(t, other.Verify(c.Header(), c.Body), grantexhook.ErrBadSignature)
				require.ErrorIs(t, other.Verify(h, c.Body), grantexhook.ErrBadSignature)
			})
		})
	}
}

func TestSignMakesTheHeadersOfGrantex(t *testing.T) {
	for _, c := range capture.All() {
		seconds, err := strconv.ParseInt(c.Header().Get(grantexhook.HeaderTimestamp), 10, 64)
		require.NoError(t, err)
		h := http.Header{}
		grantexhook.Sign(h, c.Secret, c.Body, time.Unix(seconds, 0))
		for name := range h {
			require.Equal(t, c.Header().Get(name), h.Get(name), "%s of %s", name, c.Name)
		}
		require.Len(t, h, 3)
	}
}

// flip returns a copy of b with one bit changed.
func flip(b []byte, bit int) []byte {
	b = bytes.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}

func TestVerifyEveryBit(t *testing.T) {
	c := capture.Named("grant.revoked.cascade-true")
	v := newVerifier(t, c.Secret, &grantexhook.Options{Tolerance: anyAge})
	require.NoError(t, v.Verify(c.Header(), c.Body))
	for bit := range 8 * len(c.Body) {
		require.ErrorIs(t, v.Verify(c.Header(), flip(c.Body, bit)), grantexhook.ErrBadSignature, "bit %d of the body", bit)
	}
	for _, name := range []string{grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp} {
		value := c.Header().Get(name)
		for bit := range 8 * len(value) {
			changed := string(flip([]byte(value), bit))
			if strings.EqualFold(changed, value) {
				continue // the case of a hex digit
			}
			require.Error(t, v.Verify(with(c.Header(), name, changed), c.Body), "bit %d of %s", bit, name)
		}
	}
}

func TestVerify(t *testing.T) {
	now := time.Now()
	right := signed(secret, now).Get(grantexhook.HeaderSignatureV2)
	legacyRight := signed(secret, now).Get(grantexhook.HeaderSignature)
	seconds := strconv.FormatInt(now.Unix(), 10)
	const sig, v2, ts = grantexhook.HeaderSignature, grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp
	noSig, bad, stale := grantexhook.ErrNoSignature, grantexhook.ErrBadSignature, grantexhook.ErrStale
	rotating := &grantexhook.Options{PreviousSecrets: []string{previousSecret}}
	strict := &grantexhook.Options{RequireTimestamp: true}

	tests := []struct {
		name   string
		opts   *grantexhook.Options
		header http.Header
		want   error
	}{
		{"all three headers", nil, signed(secret, now), nil},
		{"all three headers, timestamp required", strict, signed(secret, now), nil},
		{"V2 without legacy", nil, without(signed(secret, now), sig), nil},
		{"V2 right, legacy wrong", nil, with(signed(secret, now), sig, "sha256="+strings.Repeat("0", 64)), nil},
		{"V2 in upper case", nil, with(signed(secret, now), v2, "sha256="+strings.ToUpper(right[7:])), nil},
		{"previous secret", rotating, signed(previousSecret, now), nil},
		{"current secret while rotating", rotating, signed(secret, now), nil},
		{"legacy", nil, legacy(secret), nil},
		{"legacy in upper case", nil, with(legacy(secret), sig, "sha256="+strings.ToUpper(legacyRight[7:])), nil},
		{"legacy with the previous secret", rotating, legacy(previousSecret), nil},
		{"legacy with an unsigned timestamp", nil, without(signed(secret, now), v2), nil},

		{"empty headers", nil, http.Header{}, noSig},
		{"no headers at all", nil, nil, noSig},
		{"timestamp alone", nil, without(signed(secret, now), v2, sig), noSig},
		{"legacy, timestamp required", strict, legacy(secret), noSig},
		{"V2 stripped, timestamp required", strict, without(signed(secret, now), v2), noSig},

		{"another secret", nil, signed(otherSecret, now), bad},
		{"another secret while rotating", rotating, signed(otherSecret, now), bad},
		{"legacy with another secret", nil, legacy(otherSecret), bad},
		{"V2 wrong, legacy right", nil, with(signed(secret, now), v2, "sha256="+strings.Repeat("0", 64)), bad},
		{"legacy value as V2", nil, with(signed(secret, now), v2, legacyRight), bad},
		{"V2 value as legacy", nil, with(legacy(secret), sig, right), bad},
		{"V2 empty, legacy right", nil, with(signed(secret, now), v2, ""), bad},
		{"V2 without timestamp", nil, without(signed(secret, now), ts), bad},
		{"V2 of the body without timestamp", nil, with(without(signed(secret, now), ts), v2, legacyRight), bad},
		{"V2 twice", nil, with(signed(secret, now), v2, right, right), bad},
		{"V2 twice, joined", nil, with(signed(secret, now), v2, right+", "+right), bad},
		{"timestamp twice", nil, with(signed(secret, now), ts, seconds, seconds), bad},
		{"timestamp twice, with legacy", nil, with(legacy(secret), ts, seconds, seconds), bad},
		{"legacy twice, with V2", nil, with(signed(secret, now), sig, legacyRight, legacyRight), bad},
		{"legacy twice", nil, with(legacy(secret), sig, legacyRight, legacyRight), bad},
		{"legacy empty", nil, with(legacy(secret), sig, ""), bad},

		{"timestamp of another second", nil, with(signed(secret, now), ts, strconv.FormatInt(now.Unix()-1, 10)), bad},
		{"timestamp with a zero in front", nil, with(signed(secret, now), ts, "0"+seconds), bad},
		{"timestamp empty", nil, with(signed(secret, now), ts, ""), bad},
		{"timestamp with a sign", nil, with(signed(secret, now), ts, "+"+seconds), bad},
		{"timestamp negative", nil, with(signed(secret, now), ts, "-1"), bad},
		{"timestamp with a space", nil, with(signed(secret, now), ts, seconds+" "), bad},
		{"timestamp with a fraction", nil, with(signed(secret, now), ts, seconds+".0"), bad},
		{"timestamp with an underscore", nil, with(signed(secret, now), ts, "1_795_434_598"), bad},
		{"timestamp in other digits", nil, with(signed(secret, now), ts, "١٧٩٥٤٣٤٥٩٨"), bad},
		{"timestamp no number", nil, with(signed(secret, now), ts, "now"), bad},
		{"timestamp above an int64", nil, with(signed(secret, now), ts, "9223372036854775808"), bad},
		{"timestamp above a uint64", nil, with(signed(secret, now), ts, "18446744073709551616"), bad},
		{"timestamp of very many digits", nil, with(signed(secret, now), ts, strings.Repeat("0", 4096)+seconds), bad},
		{"timestamp in milliseconds", nil, with(signed(secret, now), ts, seconds+"000"), stale},
		{"timestamp zero", nil, with(signed(secret, now), ts, "0"), stale},
		{"timestamp the largest int64", nil, with(signed(secret, now), ts, strconv.FormatInt(math.MaxInt64, 10)), stale},
		{"stale, legacy right", nil, signed(secret, now.Add(-time.Hour)), stale},
	}
	for _, malformed := range []string{
		"sha256=", "sha256", "=", " ", right[7:], "sha1=" + right[7:], "SHA256=" + right[7:], " " + right, right + " ",
		right[:len(right)-1], right + "0", right[:len(right)-2] + "zz", "sha256= " + right[8:], "sha256=" + right[8:] + "\x00",
		"sha256=" + strings.Repeat("é", 32), "sha256:" + right[7:], "v1=" + right[7:],
	} {
		tests = append(tests, []struct {
			name   string
			opts   *grantexhook.Options
			header http.Header
			want   error
		}{
			{fmt.Sprintf("V2 malformed: %q", malformed), nil, with(signed(secret, now), v2, malformed), bad},
			{fmt.Sprintf("legacy malformed: %q", malformed), nil, with(legacy(secret), sig, malformed), bad},
		}...)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := newVerifier(t, secret, test.opts).Verify(test.header, payload)
			require.ErrorIs(t, err, test.want)
			if err != nil {
				require.NotContains(t, err.Error(), secret)
				require.NotContains(t, err.Error(), right[7:])
				require.NotContains(t, err.Error(), legacyRight[7:])
				require.NotContains(t, err.Error(), "grnt_1")
			}
			require.Error(t, new(grantexhook.Verifier).Verify(test.header, payload), "the zero Verifier")
		})
	}
}

// TestVerifyTimestampAsSent checks that the signature covers the header's own bytes, not
// the number they stand for.
func TestVerifyTimestampAsSent(t *testing.T) {
	seconds := strconv.FormatInt(time.Now().Unix(), 10)
	tests := []struct {
		name      string
		timestamp string
		want      error
	}{
		{"as Grantex writes it", seconds, nil},
		{"with zeros, 19 digits", strings.Repeat("0", 19-len(seconds)) + seconds, nil},
		{"with zeros, 20 digits", strings.Repeat("0", 20-len(seconds)) + seconds, grantexhook.ErrBadSignature},
		{"with a sign", "+" + seconds, grantexhook.ErrBadSignature},
		{"with white space", seconds + " ", grantexhook.ErrBadSignature},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mac := hmac.New(sha256.New, []byte(secret))
			fmt.Fprintf(mac, "%s.%s", test.timestamp, payload)
			h := http.Header{}
			h.Set(grantexhook.HeaderTimestamp, test.timestamp)
			h.Set(grantexhook.HeaderSignatureV2, fmt.Sprintf("sha256=%x", mac.Sum(nil)))
			require.ErrorIs(t, newVerifier(t, secret, nil).Verify(h, payload), test.want)
		})
	}
}

// TestVerifyEveryDigitCounts takes a MAC that ends in a zero byte, which is also the
// value of digits that weren't decoded.
func TestVerifyEveryDigitCounts(t *testing.T) {
	body, signature := []byte(nil), ""
	for i := 0; !strings.HasSuffix(signature, "00"); i++ {
		body = fmt.Appendf(nil, "%d", i)
		h := http.Header{}
		grantexhook.Sign(h, secret, body, time.Now())
		signature = h.Get(grantexhook.HeaderSignature)
	}
	for _, end := range []string{"zz", "0z", "z0", "0", ""} {
		changed := signature[:len(signature)-2] + end
		h := with(http.Header{}, grantexhook.HeaderSignature, changed)
		require.ErrorIs(t, newVerifier(t, secret, nil).Verify(h, body), grantexhook.ErrBadSignature, end)
		require.False(t, grantexhook.VerifySignature(body, changed, secret), end)
	}
}

func TestVerifyTolerance(t *testing.T) {
	tests := []struct {
		name      string
		tolerance time.Duration
		offset    time.Duration // of the timestamp from now
		want      error
	}{
		{"now", 0, 0, nil},
		{"300 s old", 0, -300 * time.Second, nil},
		{"301 s old", 0, -301 * time.Second, grantexhook.ErrStale},
		{"300 s ahead", 0, 300 * time.Second, nil},
		{"301 s ahead", 0, 301 * time.Second, grantexhook.ErrStale},
		{"least tolerance, edge", time.Second, -time.Second, nil},
		{"least tolerance, beyond", time.Second, -2 * time.Second, grantexhook.ErrStale},
		{"least tolerance, ahead", time.Second, 2 * time.Second, grantexhook.ErrStale},
		{"part of a second does not count", 1999 * time.Millisecond, -2 * time.Second, grantexhook.ErrStale},
		{"largest tolerance", math.MaxInt64, -50 * 365 * 24 * time.Hour, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
				v := newVerifier(t, secret, &grantexhook.Options{Tolerance: test.tolerance})
				require.ErrorIs(t, v.Verify(signed(secret, time.Now().Add(test.offset)), payload), test.want)

				time.Sleep(999 * time.Millisecond)
				require.ErrorIs(t, v.Verify(signed(secret, time.Now().Add(test.offset)), payload), test.want, "at the end of a second")
			})
		})
	}
}

func TestVerifySignature(t *testing.T) {
	right := legacy(secret).Get(grantexhook.HeaderSignature)
	v2Text, right2 := recordedV2(signed(secret, time.Now()))
	// RFC 4231, test case 2.
	const rfcKey, rfcMAC = "Jefe", "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	rfcData := []byte("what do ya want for nothing?")

	tests := []struct {
		name      string
		payload   []byte
		signature string
		secret    string
		want      bool
	}{
		{"right", payload, right, secret, true},
		{"RFC 4231", rfcData, rfcMAC, rfcKey, true},
		{"text that V2 covers, which Verify rejects", v2Text, right2, secret, true},
		{"upper-case digits", payload, "sha256=" + strings.ToUpper(right[7:]), secret, true},
		{"other payload", []byte("{}"), right, secret, false},
		{"empty payload", nil, right, secret, false},
		{"other secret", payload, right, otherSecret, false},
		{"empty secret", payload, legacy("").Get(grantexhook.HeaderSignature), "", false},
		{"empty signature", payload, "", secret, false},
		{"no prefix", payload, right[7:], secret, false},
		{"other prefix", payload, "sha512=" + right[7:], secret, false},
		{"upper-case prefix", payload, "SHA256=" + right[7:], secret, false},
		{"short", payload, right[:len(right)-2], secret, false},
		{"long", payload, right + "00", secret, false},
		{"no hex", payload, "sha256=" + strings.Repeat("g", 64), secret, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, grantexhook.VerifySignature(test.payload, test.signature, test.secret))
		})
	}
}

// recordedV2 returns a body for which a recorded V2 signature would be a valid
// legacy signature, and that signature.
func recordedV2(h http.Header) (body []byte, signature string) {
	return fmt.Appendf(nil, "%s.%s", h.Get(grantexhook.HeaderTimestamp), payload), h.Get(grantexhook.HeaderSignatureV2)
}

// TestVerifyRecordedV2AsLegacy checks that a V2 signature doesn't become one that
// never expires when its timestamp is put in front of the body.
func TestVerifyRecordedV2AsLegacy(t *testing.T) {
	recorded, mac := recordedV2(signed(secret, time.Now()))
	tests := []struct {
		name string
		body string
		want error
	}{
		{"recorded V2", string(recorded), grantexhook.ErrBadSignature},
		{"one digit", "1.{}", grantexhook.ErrBadSignature},
		{"zeros, of which a timestamp may have any number", "0001700000000.{}", grantexhook.ErrBadSignature},
		{"nines", "999.{}", grantexhook.ErrBadSignature},
		{"19 digits", strings.Repeat("9", 19) + ".", grantexhook.ErrBadSignature},
		{"20 digits, which no timestamp has", strings.Repeat("9", 20) + ".", nil},
		{"digits alone", "12", nil},
		{"no digits", ".{}", nil},
		{"sign", "+1.{}", nil},
		{"object", "{}", nil},
		{"empty", "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			grantexhook.Sign(h, secret, []byte(test.body), time.Now())
			if test.body == string(recorded) {
				require.Equal(t, mac, h.Get(grantexhook.HeaderSignature))
			}
			v := newVerifier(t, secret, nil)
			require.NoError(t, v.Verify(h, []byte(test.body)), "a V2 signature covers a timestamp of its own")

			h = without(h, grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp)
			require.ErrorIs(t, v.Verify(h, []byte(test.body)), test.want)
			rec := newReceiver(t, secret, grantexhook.Options{})
			rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", h, strings.NewReader(test.body)))
			require.Equal(t, test.want == nil, rec.spy.calls == 1)
		})
	}
}

// TestVerifyKeysNotCanonical checks that Verify doesn't overlook a signature header
// whose key isn't canonical and accept a weaker one instead.
func TestVerifyKeysNotCanonical(t *testing.T) {
	lower := func(h http.Header, names ...string) http.Header {
		for _, name := range names {
			h[strings.ToLower(name)] = h[name]
			delete(h, name)
		}
		return h
	}
	now := time.Now()
	const sig, v2, ts = grantexhook.HeaderSignature, grantexhook.HeaderSignatureV2, grantexhook.HeaderTimestamp
	tests := []struct {
		name   string
		header http.Header
		want   error
	}{
		{"wrong V2 with a right legacy signature", with(legacy(secret), strings.ToLower(v2), "sha256="+strings.Repeat("0", 64)), grantexhook.ErrBadSignature},
		{"right V2 with a right legacy signature", lower(signed(secret, now), v2), grantexhook.ErrBadSignature},
		{"V2 in upper case", with(legacy(secret), strings.ToUpper(v2), "x"), grantexhook.ErrBadSignature},
		{"V2 with a space at the end", with(legacy(secret), v2+" ", "x"), grantexhook.ErrBadSignature},
		{"V2 with a colon at the end", with(legacy(secret), v2+":", "x"), grantexhook.ErrBadSignature},
		{"V2 behind a tab", with(legacy(secret), "\t"+strings.ToLower(v2), "x"), grantexhook.ErrBadSignature},
		{"V2 with underscores", with(legacy(secret), strings.ReplaceAll(v2, "-", "_"), "x"), grantexhook.ErrBadSignature},
		{"V2 before a byte order mark", with(legacy(secret), v2+"\ufeff", "x"), grantexhook.ErrBadSignature},
		{"V2 before a byte that isn't UTF-8", with(legacy(secret), v2+"\xff", "x"), grantexhook.ErrBadSignature},
		{"V2 and timestamp", lower(signed(secret, now), v2, ts), grantexhook.ErrBadSignature},
		{"timestamp", lower(without(signed(secret, now), v2), ts), grantexhook.ErrBadSignature},
		{"second legacy signature", with(legacy(secret), strings.ToLower(sig), "x"), grantexhook.ErrBadSignature},
		{"legacy signature with a canonical timestamp", lower(without(signed(secret, now), v2), sig), grantexhook.ErrBadSignature},
		{"legacy signature alone", lower(legacy(secret), sig), grantexhook.ErrNoSignature},
		{"all three", lower(signed(secret, now), sig, v2, ts), grantexhook.ErrNoSignature},
		{"V2 canonical, which decides alone", lower(signed(secret, now), sig), nil},
		{"other headers in lower case", with(legacy(secret), "x-grantex-other", "x"), nil},
		{"longer name", with(legacy(secret), strings.ToLower(v2)+"-x", "x"), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := newVerifier(t, secret, nil).Verify(test.header, payload)
			require.ErrorIs(t, err, test.want)
			if test.want != nil {
				require.ErrorContains(t, err, "not in canonical form")
			}
			err = newVerifier(t, secret, &grantexhook.Options{RequireTimestamp: true}).Verify(test.header, payload)
			require.Equal(t, test.want == nil && test.header[v2] != nil, err == nil, "RequireTimestamp")
		})
	}
}

func TestErrStaleSaysWhichWay(t *testing.T) {
	for offset, want := range map[time.Duration]string{
		-301 * time.Second: "the tolerance of 300 s: it's 301 s old by",
		-400 * time.Second: "the tolerance of 300 s: it's 400 s old by",
		301 * time.Second:  "the tolerance of 300 s: it's 301 s in the future by",
		400 * time.Second:  "the tolerance of 300 s: it's 400 s in the future by",
	} {
		synctest.Test(t, func(t *testing.T) {
			require.ErrorContains(t, newVerifier(t, secret, nil).Verify(signed(secret, time.Now().Add(offset)), payload), want)
		})
	}
}

func TestVerifyAllocatesNothing(t *testing.T) {
	v := newVerifier(t, secret, &grantexhook.Options{PreviousSecrets: []string{previousSecret}})
	for name, h := range map[string]http.Header{
		"V2": signed(secret, time.Now()), "legacy": legacy(secret), "previous secret": signed(previousSecret, time.Now()),
	} {
		verify := func() {
			if err := v.Verify(h, payload); err != nil {
				t.Error(err)
			}
		}
		least := math.Inf(1) // a sync.Pool may drop its content, and does so on purpose under the race detector
		for range 100 {
			least = min(least, testing.AllocsPerRun(1, verify))
		}
		require.Zero(t, least, name)
	}
}

func TestNewVerifierRejects(t *testing.T) {
	tests := []struct {
		name   string
		secret string
		opts   grantexhook.Options
		want   string // each mistake, in order
	}{
		{"empty", "", grantexhook.Options{}, "the secret is empty"},
		{"space in front", " " + secret, grantexhook.Options{}, "the secret has white space"},
		{"newline behind", secret + "\n", grantexhook.Options{}, "the secret has white space"},
		{"only white space", "\t ", grantexhook.Options{}, "the secret has white space"},
		{"no-break space behind", secret + "\u00a0", grantexhook.Options{}, "the secret has white space"},
		{"byte order mark in front", "\ufeff" + secret, grantexhook.Options{}, "the secret has an unprintable character"},
		{"byte order mark behind", secret + "\ufeff", grantexhook.Options{}, "the secret has an unprintable character"},
		{"zero-width space within", secret[:9] + "\u200b" + secret[9:], grantexhook.Options{}, "the secret has an unprintable character"},
		{"soft hyphen within", secret[:9] + "\u00ad" + secret[9:], grantexhook.Options{}, "the secret has an unprintable character"},
		{"no-break space within", secret[:9] + "\u00a0" + secret[9:], grantexhook.Options{}, "the secret has an unprintable character"},
		{"newline within", secret[:9] + "\n" + secret[9:], grantexhook.Options{}, "the secret has an unprintable character"},
		{"tab within", secret[:9] + "\t" + secret[9:], grantexhook.Options{}, "the secret has an unprintable character"},
		{"NUL behind", secret + "\x00", grantexhook.Options{}, "the secret has an unprintable character"},
		{"escape sequence", "\x1b[1m" + secret, grantexhook.Options{}, "the secret has an unprintable character"},
		{"bytes that are not UTF-8", "\xff\xfe" + secret, grantexhook.Options{}, "the secret has an unprintable character"},
		{"what decoding left of such bytes", "\ufffd" + secret, grantexhook.Options{}, "the secret has an unprintable character"},
		{"escaped newline behind", secret + `\n`, grantexhook.Options{}, "the secret ends with escaped white space"},
		{"escaped carriage return behind", secret + `\r`, grantexhook.Options{}, "the secret ends with escaped white space"},
		{"escaped tab behind", secret + `\t`, grantexhook.Options{}, "the secret ends with escaped white space"},
		{"escaped CRLF behind", secret + `\r\n`, grantexhook.Options{}, "the secret ends with escaped white space"},
		{"double quotes", `"` + secret + `"`, grantexhook.Options{}, "the secret has quotes around it"},
		{"single quotes", "'" + secret + "'", grantexhook.Options{}, "the secret has quotes around it"},
		{"backquotes", "`" + secret + "`", grantexhook.Options{}, "the secret has quotes around it"},
		{"typographic quotes", "“" + secret + "”", grantexhook.Options{}, "the secret has quotes around it"},
		{"German quotes", "„" + secret + "“", grantexhook.Options{}, "the secret has quotes around it"},
		{"quotes of which an editor changed the first", "“" + secret + `"`, grantexhook.Options{}, "the secret has quotes around it"},
		{"quotes of which an editor changed the last", "'" + secret + "’", grantexhook.Options{}, "the secret has quotes around it"},
		{"guillemets", "«" + secret + "»", grantexhook.Options{}, "the secret has quotes around it"},
		{"full-width quotes", "＂" + secret + "＂", grantexhook.Options{}, "the secret has quotes around it"},
		{"escaped quotes", `\"` + secret + `\"`, grantexhook.Options{}, "the secret has quotes around it"},
		{"line of JSON", `"secret":"` + secret + `",`, grantexhook.Options{}, "the secret has quotes around it"},
		{"element of JSON", `"` + secret + `",`, grantexhook.Options{}, "the secret has quotes around it"},
		{"statement", "'" + secret + "';", grantexhook.Options{}, "the secret has quotes around it"},
		{"bytes of Python", "b'" + secret + "'", grantexhook.Options{}, "the secret has quotes around it"},
		{"quotes of Bash", "$'" + secret + "'", grantexhook.Options{}, "the secret has quotes around it"},
		{"only quotes", `""`, grantexhook.Options{}, "the secret has quotes around it"},
		{"unexpanded variable", "${GRANTEX_WEBHOOK_SECRET}", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"unexpanded variable with a default", "${SECRET:-" + secret + "}", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"unexpanded variable without braces", "$GRANTEX_WEBHOOK_SECRET", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"unexpanded variable of PowerShell", "$env:GRANTEX_WEBHOOK_SECRET", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"unexpanded variable of Windows", "%GRANTEX_WEBHOOK_SECRET%", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"command that was not run", "$(cat secret.txt)", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"template that was not filled in", "{{ .Values.secret }}", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"reference of 1Password", "op://vault/grantex/secret", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"reference of Azure", "@Microsoft.KeyVault(SecretUri=https://vault.example)", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"ellipsis of the documentation", "…", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"ellipsis in ASCII", "...", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"blank of the documentation", "<your secret>", grantexhook.Options{}, "the secret is an unexpanded placeholder"},
		{"assignment", "GRANTEX_WEBHOOK_SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment in lower case", "secret=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment with quotes", `SECRET="` + secret + `"`, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment with spaces", "SECRET = " + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"exported assignment", "export SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"exported assignment without a value", "export SECRET=", grantexhook.Options{}, "the secret is an assignment"},
		{"assignment without a value in Windows", "set SECRET=", grantexhook.Options{}, "the secret is an assignment"},
		{"what export -p prints", `declare -x SECRET="` + secret + `"`, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment of a Dockerfile", "ENV SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"option of docker run", "-e SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"option of a command", "--webhook-secret=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"key of Kubernetes", "webhook-secret=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"property", "webhook.secret = " + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment of Windows", "set SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"assignment of PowerShell", "$env:SECRET=" + secret, grantexhook.Options{}, "the secret is an assignment"},
		{"previous with quotes", secret, grantexhook.Options{PreviousSecrets: []string{`"` + previousSecret + `"`}}, "PreviousSecrets[0] has quotes"},
		{"placeholder", "[redacted]", grantexhook.Options{}, "the secret is the placeholder"},
		{"previous empty", secret, grantexhook.Options{PreviousSecrets: []string{previousSecret, ""}}, "PreviousSecrets[1] is empty"},
		{"previous with white space", secret, grantexhook.Options{PreviousSecrets: []string{previousSecret + "\r\n"}}, "PreviousSecrets[0] has white space"},
		{"negative tolerance", secret, grantexhook.Options{Tolerance: -1}, "Tolerance is -1ns"},
		{"tolerance of the wrong unit", secret, grantexhook.Options{Tolerance: 300}, "Tolerance is 300ns"},
		{"negative MaxBody", secret, grantexhook.Options{MaxBody: -1}, "MaxBody is -1"},
		{"every mistake at once", "", grantexhook.Options{MaxBody: -1, Tolerance: -1}, "the secret is empty|Tolerance|MaxBody"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, err := grantexhook.NewVerifier(test.secret, &test.opts)
			require.Nil(t, v)
			for _, want := range strings.Split(test.want, "|") {
				require.ErrorContains(t, err, "grantexhook: "+want)
			}
			require.NotContains(t, err.Error(), secret)
			require.NotContains(t, err.Error(), previousSecret)
		})
	}
}

// TestNewVerifierAccepts checks secrets that look like a mistake but aren't one,
// since a user may choose any text as a secret.
func TestNewVerifierAccepts(t *testing.T) {
	for _, secret := range []string{
		"the new secret", "s", "'", `"`, "it's", `'one" `[:5], `"a" or 'b'`, "YWJjZGVm", "YWJjZGU=", "YWJjZA==", "a_b=", "-_-=abc",
		"$ecret", "100%", "%d", "a$(b)c", "pa${ss}word", "{}", "[]", "\\n in front", "sécret", "été”", "“été", "秘密", "🔑", "export", "1=2",
		",", ";", "b", "$", "b'", "the 'new' one,", "--", "-e x", "-x=", "a-b==", "a.b=",
	} {
		h := http.Header{}
		grantexhook.Sign(h, secret, payload, time.Now())
		require.NoError(t, newVerifier(t, secret, nil).Verify(h, payload), secret)
	}
}

// underFIPS runs the test again, in a process with GODEBUG=fips140=mode, and
// reports whether this is that process.
func underFIPS(t *testing.T, mode string) bool {
	if fips140.Enabled() && fips140.Enforced() == (mode == "only") {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140="+mode)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return false
}

func TestFIPSRejectsAShortSecret(t *testing.T) {
	t.Parallel() // it waits for a process
	if !underFIPS(t, "only") {
		return
	}
	const short = "13 characters"
	for _, opts := range []*grantexhook.Options{nil, {PreviousSecrets: []string{short}}} {
		_, err := grantexhook.NewVerifier(short, opts)
		require.ErrorContains(t, err, "the secret is shorter than 14 bytes")
		require.NotContains(t, err.Error(), short)
	}
	require.False(t, grantexhook.VerifySignature(payload, "sha256="+strings.Repeat("0", 64), short))

	const long = short + "!"
	require.NoError(t, newVerifier(t, long, nil).Verify(signed(long, time.Now()), payload))
	require.True(t, grantexhook.VerifySignature(payload, legacy(long).Get(grantexhook.HeaderSignature), long))
}

// TestFIPSOnTakesAShortSecret: only the mode that enforces FIPS 140-3 panics.
func TestFIPSOnTakesAShortSecret(t *testing.T) {
	t.Parallel() // it waits for a process
	if underFIPS(t, "on") {
		require.NoError(t, newVerifier(t, "short", nil).Verify(signed("short", time.Now()), payload))
		require.True(t, grantexhook.VerifySignature(payload, legacy("short").Get(grantexhook.HeaderSignature), "short"))
	}
}

// TestOptionsPrintNoSecret leaves out %p and %w, for which fmt calls no method.
func TestOptionsPrintNoSecret(t *testing.T) {
	opts := grantexhook.Options{PreviousSecrets: []string{secret, secret}, MaxBody: 4321}
	requireHidden(t, secret, opts, &opts, []grantexhook.Options{opts}, []*grantexhook.Options{&opts}, struct{ O grantexhook.Options }{opts},
		map[string]*grantexhook.Options{"k": &opts}, any(opts))
	require.Contains(t, fmt.Sprintf("%+v", opts), "PreviousSecrets:[[redacted] [redacted]] RequireTimestamp:false")
	require.Contains(t, fmt.Sprintf("%+v", &opts), "MaxBody:4321")
	require.Equal(t, []string{secret, secret}, opts.PreviousSecrets)
	require.Equal(t, "<nil>", fmt.Sprintf("%v", (*grantexhook.Options)(nil)))
}

func TestVerifierPrintsNoSecret(t *testing.T) {
	v := newVerifier(t, secret, &grantexhook.Options{PreviousSecrets: []string{previousSecret}})
	require.NoError(t, v.Verify(signed(secret, time.Now()), payload))
	text := fmt.Sprintf("%v %+v %#v %v %+v %#v", v, v, v, *v, *v, *v)
	require.NotContains(t, text, secret)
	require.NotContains(t, text, previousSecret)
}

func FuzzVerify(f *testing.F) {
	now := time.Now()
	f.Add("", "", "", payload)
	for _, h := range []http.Header{signed(secret, now), legacy(secret), signed(otherSecret, now), signed(secret, now.Add(-time.Hour)), legacy("")} {
		f.Add(h.Get(grantexhook.HeaderSignature), h.Get(grantexhook.HeaderSignatureV2), h.Get(grantexhook.HeaderTimestamp), payload)
	}
	for _, c := range capture.All()[:9] {
		h := c.Header()
		f.Add(h.Get(grantexhook.HeaderSignature), h.Get(grantexhook.HeaderSignatureV2), h.Get(grantexhook.HeaderTimestamp), c.Body)
	}
	// A key that no seed was signed with: what is accepted was forged.
	v, err := grantexhook.NewVerifier("c4323e7094b5713ee8c418b1545a4d3c60652bc89d6bba7c-", &grantexhook.Options{
		PreviousSecrets: []string{previousSecret + "-"}, Tolerance: anyAge,
	})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, sig, v2, timestamp string, body []byte) {
		h := http.Header{}
		for name, value := range map[string]string{
			grantexhook.HeaderSignature: sig, grantexhook.HeaderSignatureV2: v2, grantexhook.HeaderTimestamp: timestamp,
		} {
			if value != "" {
				h.Set(name, value)
			}
		}
		require.Error(t, v.Verify(h, body))
		require.False(t, grantexhook.VerifySignature(body, sig, ""))
	})
}
