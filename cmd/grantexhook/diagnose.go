package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"grantex.dev/grantexhook"
)

// A mistake is one that people make with signatures.
type mistake struct{ what, fix string }

// A claim is a signature as it may have been meant.
type claim struct {
	header   string
	mac      []byte
	hash     func() hash.Hash
	mistakes []mistake
}

// diagnose returns the mistakes that together explain why the delivery is not
// right; none if it finds none. The header that decides comes first; if only
// the other one fits, that is told.
func diagnose(d saved, secret string) []mistake {
	v2, legacy := claimsOf(d, grantexhook.HeaderSignatureV2), claimsOf(d, grantexhook.HeaderSignature)
	first, second := v2, legacy
	if len(v2) == 0 {
		first, second = legacy, nil
	}
	if found, ok := explain(first, d, secret); ok {
		return found
	}
	if d.headers.Get(grantexhook.HeaderTimestamp) == "" {
		return malformed(first)
	}
	if found, ok := explain(second, d, secret); ok {
		return append(found, mistake{
			grantexhook.HeaderSignature + " fits, but " + grantexhook.HeaderSignatureV2 + ", which decides, does not",
			"secret and body are those that were signed: was " + grantexhook.HeaderTimestamp + " or " + grantexhook.HeaderSignatureV2 + " changed on the way?",
		})
	}
	return malformed(first)
}

// malformed returns the mistakes that can be told from the values alone.
func malformed(all []claim) []mistake {
	for _, c := range all {
		if len(c.mistakes) > 0 {
			return c.mistakes
		}
	}
	return nil
}

// A search tries every combination of mistakes until one fits.
type search struct{ bodies, contents variants }

func explain(claims []claim, d saved, secret string) (found []mistake, ok bool) {
	if len(claims) == 0 {
		return nil, false
	}
	s := search{bodies: bodiesLike(d.body)}
	secrets, times := secretsLike(secret), timesLike(d.headers)
	for _, c := range claims {
		s.contents = contents(c.header, times)
		for _, k := range secrets {
			if found, ok := s.try(c, k); ok {
				return found, true
			}
		}
	}
	return nil, false
}

func (s *search) try(c claim, secret variant) (found []mistake, ok bool) {
	for _, body := range s.bodies {
		for _, content := range s.contents {
			if c.made(secret.value, content.value, body.value) {
				return slices.Concat(secret.mistakes, body.mistakes, content.mistakes, c.mistakes), true
			}
		}
	}
	return nil, false
}

func (c claim) made(secret, prefix, body []byte) bool {
	mac := hmac.New(c.hash, secret)
	mac.Write(prefix)
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), c.mac)
}

// claimsOf reads what is meant by the values of a header.
func claimsOf(d saved, header string) (all []claim) {
	for _, value := range d.headers.Values(header) {
		c := claim{header: header, hash: sha256.New}
		if len(d.headers.Values(header)) > 1 {
			c.add(header+" is there more than once", "send it once")
		}
		digits := c.prefix(value)
		if c.mac = c.decode(digits); c.mac == nil {
			c.add(header+" is "+strconv.Itoa(len(digits))+" characters after its prefix, where 64 hex digits should be", "copy the whole value")
		}
		c.algorithm()
		all = append(all, c)
	}
	return all
}

func (c *claim) add(what, fix string) { c.mistakes = append(c.mistakes, mistake{what, fix}) }

// prefix returns the value without what stands before the digits.
func (c *claim) prefix(value string) string {
	trimmed := strings.Trim(value, "\"' \t")
	if trimmed != value {
		c.add(c.header+" has quotes or white space around it", "send the value alone")
	}
	if digits, ok := strings.CutPrefix(trimmed, "sha256="); ok {
		return digits
	}
	name, digits, ok := strings.Cut(trimmed, "=")
	if !ok || digits == "" || len(name) > 10 {
		name, digits = "", trimmed
	}
	if name == "" {
		c.add(c.header+" lacks its prefix sha256=", "the value is sha256= and 64 hex digits")
	} else {
		c.add(c.header+" has another prefix than sha256=", "the value is sha256= and 64 hex digits")
	}
	return digits
}

func (c *claim) decode(digits string) []byte {
	if mac, err := hex.DecodeString(digits); err == nil {
		return mac
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if mac, err := e.DecodeString(digits); err == nil && slices.Contains([]int{sha1.Size, sha256.Size, sha512.Size384, sha512.Size}, len(mac)) {
			c.add(c.header+" is in base64", "write the signature as 64 hex digits")
			return mac
		}
	}
	return nil
}

// algorithm guesses the hash from the length of the MAC.
func (c *claim) algorithm() {
	name := ""
	switch len(c.mac) {
	case 0, sha256.Size:
		return
	case sha1.Size:
		name, c.hash = "SHA-1", sha1.New
	case sha512.Size384:
		name, c.hash = "SHA-384", sha512.New384
	case sha512.Size:
		name, c.hash = "SHA-512", sha512.New
	default:
		c.add(fmt.Sprintf("%s is %d bytes long, where 32 should be", c.header, len(c.mac)), "copy the whole value")
		return
	}
	c.add(c.header+" has the length of "+name, "sign with HMAC-SHA256")
}
