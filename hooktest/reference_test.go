package hooktest_test

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

var (
	wellFormedMAC  = regexp.MustCompile(`^sha256=[0-9a-fA-F]{64}$`)
	wellFormedTime = regexp.MustCompile(`^[0-9]{1,19}$`)
	maxTime        = new(big.Int).SetUint64(1<<63 - 1)
	tolerance      = big.NewInt(300)
)

// reference is a second verifier. It shares no code with the first, not even
// crypto/hmac, and checks in another order.
func reference(v vector) string {
	headers := map[string][]string{}
	for _, kv := range v.Headers {
		name := strings.ToLower(kv[0])
		headers[name] = append(headers[name], kv[1])
	}
	legacy, v2, at := headers["x-grantex-signature"], headers["x-grantex-signature-v2"], headers["x-grantex-timestamp"]
	for _, values := range [][]string{legacy, v2, at} {
		if len(values) > 1 {
			return "bad_signature"
		}
	}
	if v2 != nil {
		return referenceV2(v, v2[0], strings.Join(at, ""))
	}
	if legacy == nil || v.RequireTimestamp {
		return "no_signature"
	}
	if !wellFormedMAC.MatchString(legacy[0]) || !strings.EqualFold(legacy[0], rfc2104(v.Secret, string(v.Body))) {
		return "bad_signature"
	}
	return "ok"
}

func referenceV2(v vector, mac, at string) string {
	if !wellFormedMAC.MatchString(mac) || !wellFormedTime.MatchString(at) {
		return "bad_signature"
	}
	if !strings.EqualFold(mac, rfc2104(v.Secret, at+"."+string(v.Body))) {
		return "bad_signature"
	}
	seconds, _ := new(big.Int).SetString(at, 10)
	if seconds.Cmp(maxTime) > 0 {
		return "bad_signature"
	}
	age := new(big.Int).Sub(big.NewInt(v.VerifyAt), seconds)
	if age.Abs(age).Cmp(tolerance) > 0 {
		return "stale"
	}
	return "ok"
}

// rfc2104 returns the HMAC-SHA256 of text as RFC 2104 defines it, in the form of a
// header.
func rfc2104(key, text string) string {
	if len(key) > sha256.BlockSize {
		hashed := sha256.Sum256([]byte(key))
		key = string(hashed[:])
	}
	inner, outer := make([]byte, sha256.BlockSize), make([]byte, sha256.BlockSize)
	copy(inner, key)
	copy(outer, key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	digest := sha256.Sum256(append(inner, text...))
	digest = sha256.Sum256(append(outer, digest[:]...))
	return fmt.Sprintf("sha256=%x", digest)
}
