package grantexhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A signature is what the headers of a delivery claim.
type signature struct {
	mac       [sha256.Size]byte
	timestamp string // as sent, since these bytes are what is signed; empty for the legacy signature
	seconds   int64  // the same as a number
}

func (s *signature) sentAt() time.Time {
	if s.timestamp == "" {
		return time.Time{}
	}
	return time.Unix(s.seconds, 0)
}

// parse is the part of Verify that doesn't need the body. A delivery that fails
// here can't be valid, whatever its body is.
func (v *Verifier) parse(h http.Header, now time.Time) (signature, error) {
	legacy, v2, timestamp := h[HeaderSignature], h[HeaderSignatureV2], h[HeaderTimestamp]
	switch {
	case len(v.keys) == 0:
		return signature{}, fmt.Errorf("%w: this Verifier has no secret; make it with NewVerifier", ErrBadSignature)
	case len(legacy) > 1 || len(v2) > 1 || len(timestamp) > 1:
		return signature{}, fmt.Errorf("%w: a signature header was sent more than once", ErrBadSignature)
	case len(v2) == 1:
		return v.parseV2(v2[0], timestamp, now)
	case hasOtherForm(h):
		return signature{}, notCanonical(len(legacy)+len(timestamp) > 0)
	case len(legacy) == 0:
		return signature{}, ErrNoSignature
	case v.requireTimestamp:
		return signature{}, fmt.Errorf("%w: RequireTimestamp is set, and there is only %s", ErrNoSignature, HeaderSignature)
	}
	mac, ok := parseMAC(legacy[0])
	if !ok {
		return signature{}, fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderSignature)
	}
	return signature{mac: mac}, nil
}

// hasOtherForm reports whether a key of h is a signature header's name that isn't
// in canonical form. A map from an API gateway may contain such keys. One of them
// could be the V2 signature that should decide. parse calls this only if there's no
// canonical V2, so a normal delivery doesn't pay for it.
func hasOtherForm(h http.Header) bool {
	for key := range h {
		for _, name := range [...]string{HeaderSignature, HeaderSignatureV2, HeaderTimestamp} {
			if key != name && strings.EqualFold(key, name) {
				return true
			}
		}
	}
	return false
}

// notCanonical returns ErrBadSignature if some of the headers are canonical: then a
// signature is there but incomplete. Otherwise it returns ErrNoSignature.
func notCanonical(some bool) error {
	err := ErrNoSignature
	if some {
		err = ErrBadSignature
	}
	return fmt.Errorf("%w: a signature header is not in canonical form; set each header with http.Header.Set", err)
}

func (v *Verifier) parseV2(value string, timestamp []string, now time.Time) (signature, error) {
	mac, ok := parseMAC(value)
	if !ok {
		return signature{}, fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderSignatureV2)
	}
	if len(timestamp) == 0 {
		return signature{}, fmt.Errorf("%w: %s without %s", ErrBadSignature, HeaderSignatureV2, HeaderTimestamp)
	}
	seconds, ok := parseTimestamp(timestamp[0])
	if !ok {
		return signature{}, fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderTimestamp)
	}
	sig := signature{mac: mac, timestamp: timestamp[0], seconds: seconds}
	return sig, v.checkAge(&sig, now)
}

// checkAge accepts a signature without a timestamp, since its age is unknown.
func (v *Verifier) checkAge(sig *signature, now time.Time) error {
	age := now.Unix() - sig.seconds
	switch {
	case sig.timestamp == "" || -v.tolerance <= age && age <= v.tolerance:
		return nil
	case age < 0:
		return fmt.Errorf("%w of %d s: it's %d s in the future by this machine's clock", ErrStale, v.tolerance, -age)
	default:
		return fmt.Errorf("%w of %d s: it's %d s old by this machine's clock", ErrStale, v.tolerance, age)
	}
}

const macPrefix = "sha256="

// parseMAC takes either case of the hex digits: they are compared decoded.
func parseMAC(value string) (mac [sha256.Size]byte, ok bool) {
	digits, ok := strings.CutPrefix(value, macPrefix)
	if !ok || len(digits) != hex.EncodedLen(len(mac)) {
		return mac, false
	}
	_, err := hex.Decode(mac[:], []byte(digits))
	return mac, err == nil
}

// maxDigits is the length of the largest number of seconds that fits an int64.
const maxDigits = 19

// startsWithTimestamp reports whether body could be what a V2 signature covers,
// "<timestamp>.<body>".
func startsWithTimestamp(body []byte) bool {
	digits := 0
	for digits < len(body) && '0' <= body[digits] && body[digits] <= '9' {
		digits++
	}
	return 1 <= digits && digits <= maxDigits && digits < len(body) && body[digits] == '.'
}

// parseTimestamp takes digits alone. A result that is not negative also keeps
// the comparison with the clock from overflowing.
func parseTimestamp(value string) (int64, bool) {
	if len(value) > maxDigits {
		return 0, false
	}
	seconds, err := strconv.ParseUint(value, 10, 63)
	return int64(seconds), err == nil
}

func sum(secret string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// A key makes the MACs of one secret. The hashes are pooled because an HMAC that
// is reset keeps the state it derived from the secret; deriving it again costs as
// much as hashing 128 bytes.
type key struct {
	hashes sync.Pool // of *keyedHash
}

type keyedHash struct {
	hash.Hash
	prefix [maxDigits + 1]byte
	sum    [sha256.Size]byte
}

func newKey(secret string) *key {
	return &key{sync.Pool{New: func() any {
		return &keyedHash{Hash: hmac.New(sha256.New, []byte(secret))}
	}}}
}

func (k *key) made(sig *signature, body *page) bool {
	h := k.hashes.Get().(*keyedHash)
	defer k.hashes.Put(h)
	h.Reset()
	if sig.timestamp != "" {
		h.Write(append(append(h.prefix[:0], sig.timestamp...), '.'))
	}
	for ; body != nil; body = body.next {
		h.Write(body.data)
	}
	return hmac.Equal(h.Sum(h.sum[:0]), sig.mac[:])
}
