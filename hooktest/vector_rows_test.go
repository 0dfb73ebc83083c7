package hooktest_test

import (
	"bytes"
	"strings"
)

// The vectors that are made: each is the valid one with these changes.

var rightVectors = []madeVector{
	{"both signatures", nil},
	{"V2 alone", all(drop(legacyName))},
	{"only the signature of the body", all(drop(v2Name, timeName))},
	{"only the signature of the body, a year later: it never expires", all(drop(v2Name, timeName), later(365*86400))},
	{"only the signature of the body, with an unsigned timestamp", all(drop(v2Name), set(timeName, "1"))},
	{"V2 decides: the signature of the body doesn't match", all(edit(legacyName, flipLast))},
	{"V2 decides: the signature of the body is malformed", all(set(legacyName, "sha1=0"))},
	{"timestamp required and present", all(timestampRequired)},
	{"300 seconds old", all(later(300))},
	{"300 seconds ahead", all(later(-300))},
	{"upper-case hex", all(edit(legacyName, upperHex), edit(v2Name, upperHex))},
	{"mixed-case hex", all(edit(v2Name, mixedHex))},
	{"header names in another case", all(rename(legacyName, "X-Grantex-Signature"), rename(v2Name, "X-GRANTEX-SIGNATURE-V2"))},
	{"other headers don't matter", all(add("x-grantex-signature-v3", "sha256=0"), add("content-type", "text/plain"))},
	{"leading zeros in the timestamp, signed with them", all(edit(timeName, leadingZeros), sign)},
	{"body that ends in a line feed", all(body(withLineFeed), sign)},
	{"body that isn't JSON", all(bodyIs("not JSON"), sign)},
	{"body that isn't UTF-8", all(bodyIs("\x00\xff\xfe\r\n\xc3"), sign)},
	{"empty body", all(bodyIs(""), sign)},
	{"secret that isn't hex", all(withSecret("whsec_Zürich+/="), sign)},
	{"secret longer than a SHA-256 block", all(withSecret(strings.Repeat("0123456789abcdef", 5)), sign)},
}

var unsignedVectors = []madeVector{
	{"no header", all(drop(legacyName, v2Name, timeName))},
	{"only a timestamp", all(drop(legacyName, v2Name))},
	{"only a signature of a later version", all(drop(legacyName, v2Name), add("x-grantex-signature-v3", "sha256=0"))},
	{"timestamp required: only the signature of the body", all(drop(v2Name, timeName), timestampRequired)},
	{"timestamp required: V2 stripped, timestamp kept", all(drop(v2Name), timestampRequired)},
}

var badVectors = []madeVector{
	// Another body.
	{"body with one byte changed", all(body(oneByteChanged))},
	{"body with one byte changed, only the signature of the body", all(drop(v2Name, timeName), body(oneByteChanged))},
	{"body with a line feed added", all(body(withLineFeed))},
	{"body cut short", all(body(func(b []byte) []byte { return b[:len(b)-1] }))},
	{"body already read by something else", all(bodyIs(""))},
	{"body decoded and encoded again", all(body(encodedAgain))},
	{"body decoded and encoded again, only the signature of the body", all(drop(v2Name, timeName), body(encodedAgain))},

	// Another key.
	{"another secret", all(withSecret("58d672a33a2898e45e79f8f26e7c6e534ec617b081b4cce9"))},
	{"another secret, only the signature of the body", all(drop(v2Name, timeName), withSecret("58d672a33a2898e45e79f8f26e7c6e534ec617b081b4cce9"))},
	{"the secret in upper case", all(withSecret("58D672A33A2898E45E79F8F26E7C6E534EC617B081B4CCE8"))},
	{"signed with the secret and a line feed", all(signWith("58d672a33a2898e45e79f8f26e7c6e534ec617b081b4cce8\n"))},
	{"signed with the bytes that the secret decodes to as hex", all(signWith(unhex("58d672a33a2898e45e79f8f26e7c6e534ec617b081b4cce8")))},
	{"signed with an empty secret", all(signWith(""))},

	// Another MAC, or a missing one.
	{"one digit of V2 changed", all(edit(v2Name, flipLast))},
	{"one digit changed, only the signature of the body", all(drop(v2Name, timeName), edit(legacyName, flipLast))},
	{"a wrong V2 isn't rescued by a valid signature of the body", all(set(v2Name, "sha256="+strings.Repeat("0", 64)))},
	{"V2 empty", all(set(v2Name, ""))},
	{"signature of the body empty", all(drop(v2Name, timeName), set(legacyName, ""))},
	{"V2 has the value of the signature of the body", all(func(v *vector) { set(v2Name, v.get(legacyName))(v) })},
	{"the signature of the body has the value of V2", all(func(v *vector) { set(legacyName, v.get(v2Name))(v) }, drop(v2Name, timeName))},
	{"V2 over timestamp and body without the dot", all(func(v *vector) { set(v2Name, mac(v.Secret, v.get(timeName), string(v.Body)))(v) })},
	{"V2 over the body before the timestamp", all(func(v *vector) { set(v2Name, mac(v.Secret, string(v.Body), ".", v.get(timeName)))(v) })},
	{"V2 with 63 digits", all(edit(v2Name, func(s string) string { return s[:len(s)-1] }))},
	{"V2 with 62 digits", all(edit(v2Name, func(s string) string { return s[:len(s)-2] }))},
	{"V2 with 66 digits", all(edit(v2Name, func(s string) string { return s + "00" }))},
	{"V2 with a character that isn't a hex digit", all(edit(v2Name, func(s string) string { return s[:len(s)-1] + "g" }))},
	{"V2 in base64", all(edit(v2Name, base64MAC))},
	{"V2 without the prefix", all(edit(v2Name, withoutPrefix))},
	{"V2 with only the prefix", all(set(v2Name, "sha256="))},
	{"V2 with the prefix in upper case", all(edit(v2Name, func(s string) string { return strings.Replace(s, "sha256", "SHA256", 1) }))},
	{"V2 with another prefix", all(edit(v2Name, func(s string) string { return strings.Replace(s, "sha256=", "v1=", 1) }))},
	{"V2 with a space in it", all(edit(v2Name, func(s string) string { return strings.Replace(s, "=", "= ", 1) }))},
	{"two signatures in one header", all(edit(v2Name, func(s string) string { return s + ", " + s }))},
	{"signature of the body without the prefix", all(drop(v2Name, timeName), edit(legacyName, withoutPrefix))},

	// Another timestamp, or a missing one.
	{"V2 without a timestamp", all(drop(timeName))},
	{"timestamp empty", all(sentAt(""))},
	{"timestamp changed after it was signed", all(set(timeName, "1795435529"))},
	{"leading zeros added after it was signed", all(edit(timeName, leadingZeros))},
	{"timestamp with a plus", all(sentAt("+1795435528"))},
	{"timestamp negative", all(sentAt("-1795435528"))},
	{"timestamp with decimals", all(sentAt("1795435528.0"))},
	{"timestamp with an exponent", all(sentAt("1795435528e0"))},
	{"timestamp in hex", all(sentAt("0x6b03e1c8"))},
	{"timestamp with a separator", all(sentAt("1_795_435_528"))},
	{"timestamp with digits that aren't ASCII", all(sentAt("１７９５４３５５２８"))},
	{"timestamp as a date", all(sentAt("2026-11-23T12:05:28Z"))},
	{"timestamp that overflows 63 bits", all(sentAt("9223372036854775808"))},
	{"timestamp that overflows 64 bits to the valid one", all(sentAt("18446744075504987144"))},

	// More than one.
	{"signature of the body twice", all(twice(legacyName))},
	{"signature of the body twice, without V2", all(drop(v2Name, timeName), twice(legacyName))},
	{"V2 twice", all(twice(v2Name))},
	{"timestamp twice", all(twice(timeName))},
	{"a wrong V2 before the valid one", all(func(v *vector) {
		right := v.get(v2Name)
		edit(v2Name, flipLast)(v)
		add(v2Name, right)(v)
	})},
}

var staleVectors = []madeVector{
	{"301 seconds old", all(later(301))},
	{"301 seconds ahead", all(later(-301))},
	{"replayed a day later", all(later(86400))},
	{"timestamp zero", all(sentAt("0"))},
	{"timestamp in milliseconds", all(sentAt("1795435528000"))},
	{"timestamp of the largest 63-bit value", all(sentAt("9223372036854775807"))},
}

func upperHex(value string) string {
	prefix, digits, _ := strings.Cut(value, "=")
	return prefix + "=" + strings.ToUpper(digits)
}

func mixedHex(value string) string {
	half := len(value) / 2
	return value[:half] + strings.ToUpper(value[half:])
}

func withoutPrefix(value string) string { return strings.TrimPrefix(value, "sha256=") }

func leadingZeros(value string) string { return "000" + value }

func withLineFeed(b []byte) []byte { return append(b, '\n') }

func oneByteChanged(b []byte) []byte { return bytes.Replace(b, []byte("script"), []byte("scripT"), 1) }
