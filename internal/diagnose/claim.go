package diagnose

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"grantex.dev/grantexhook"
)

// A claim is one reading of a signature header.
type claim struct {
	header   string
	mac      []byte
	hash     func() hash.Hash
	mistakes []Mistake
}

// claims returns what the values of a header may mean.
func claims(h http.Header, header string) (all []claim) {
	values := h.Values(header)
	for _, value := range values[:min(len(values), maxSignatures)] {
		c := claim{header: header, hash: sha256.New}
		if len(values) > 1 {
			c.add("appears more than once")
		}
		digits := c.prefix(value)
		if c.mac = c.decode(digits); c.mac == nil {
			c.add(fmt.Sprintf("isn't 64 hex digits (its length is %d)", len(digits)))
		}
		c.algorithm()
		all = append(all, c)
	}
	return all
}

func (c *claim) add(what string) {
	c.mistakes = append(c.mistakes, Mistake{HeaderForm, c.header + " " + what})
}

// prefix returns the value without its prefix.
func (c *claim) prefix(value string) string {
	trimmed := strings.Trim(value, "\"' \t")
	if trimmed != value {
		c.add("has quotes or white space around it")
	}
	if digits, ok := strings.CutPrefix(trimmed, "sha256="); ok {
		return digits
	}
	name, digits, ok := strings.Cut(trimmed, "=")
	if !ok || len(name) > 10 { // base64 may end in = too
		name, digits = "", trimmed
	}
	if name == "" {
		c.add("lacks the prefix sha256=")
	} else {
		c.add("has a prefix other than sha256=")
	}
	return digits
}

func (c *claim) decode(digits string) []byte {
	if mac, err := hex.DecodeString(digits); err == nil {
		return mac
	}
	for _, e := range encodings {
		if mac, err := e.DecodeString(digits); err == nil && slices.Contains([]int{sha1.Size, sha256.Size, sha512.Size384, sha512.Size}, len(mac)) {
			c.add("is in base64")
			return mac
		}
	}
	return nil
}

var encodings = []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}

// algorithm guesses the hash from the length of the MAC.
func (c *claim) algorithm() {
	if c.mac == nil {
		return
	}
	name := ""
	switch len(c.mac) {
	case sha256.Size:
		return
	case sha1.Size:
		name, c.hash = "SHA-1", sha1.New
	case sha512.Size384:
		name, c.hash = "SHA-384", sha512.New384
	case sha512.Size:
		name, c.hash = "SHA-512", sha512.New
	default:
		c.add(fmt.Sprintf("has %d hex digits instead of 64", 2*len(c.mac)))
		return
	}
	c.add("has the length of " + name)
}

// MaxSeconds is in the year 5138. A larger timestamp was meant as milliseconds.
const MaxSeconds = 99_999_999_999

// times returns guesses at the timestamp that was signed. The first is its value.
func times(value string) []guess {
	sent := guess{value: []byte(value)}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return []guess{sent}
	}
	guessed := func(n int64, what string) guess {
		return guess{strconv.AppendInt(nil, n, 10), []Mistake{{TimestampUnit, what}}}
	}
	all := []guess{
		sent,
		guessed(n/1000, grantexhook.HeaderTimestamp+" is in milliseconds, but seconds were signed"),
		guessed(n*1000, "milliseconds were signed, but "+grantexhook.HeaderTimestamp+" is in seconds"),
		guessed(n, grantexhook.HeaderTimestamp+" has zeros or a sign before its digits"),
	}
	if n > MaxSeconds {
		all[0].mistakes = []Mistake{{TimestampUnit, grantexhook.HeaderTimestamp + " is in milliseconds"}}
	}
	return all
}

// prefixes returns guesses at what was signed before the body.
func prefixes(header string, times []guess) []guess {
	alone := guess{}
	if header == grantexhook.HeaderSignatureV2 {
		alone = alone.and(nil, Mistake{SignedBodyAlone, header + " covers only the body, like " + grantexhook.HeaderSignature})
	}
	all := []guess{alone}
	if len(times[0].value) == 0 {
		return all
	}
	for _, t := range times {
		dotted := guess{append(slices.Clone(t.value), '.'), t.mistakes}
		bare := t.and(t.value, Mistake{SignedWithoutDot, "the dot between the timestamp and the body was not signed"})
		if header == grantexhook.HeaderSignature {
			m := Mistake{SignedTimestamp, header + " covers the timestamp and the body, like " + grantexhook.HeaderSignatureV2}
			dotted, bare = dotted.and(dotted.value, m), bare.and(bare.value, m)
		}
		all = append(all, dotted, bare)
	}
	return all
}
