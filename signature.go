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

// parse is the part of Verify that needs no body: what fails here cannot be
// right, whatever the body is. The time now is in Unix seconds.
func (v *Verifier) parse(h http.Header, now int64) (signature, error) {
	legacy, v2, timestamp := h[HeaderSignature], h[HeaderSignatureV2], h[HeaderTimestamp]
	switch {
	case len(v.keys) == 0:
		return signature{}, fmt.Errorf("%w: this Verifier has no secret; make it with NewVerifier", ErrBadSignature)
	case len(legacy) > 1 || len(v2) > 1 || len(timestamp) > 1:
		return signature{}, fmt.Errorf("%w: a header of it is sent more than once", ErrBadSignature)
	case len(v2) == 1:
		return v.parseV2(v2[0], timestamp, now)
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

func (v *Verifier) parseV2(value string, timestamp []string, now int64) (signature, error) {
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
	if age := now - seconds; age > v.tolerance || age < -v.tolerance {
		return signature{}, fmt.Errorf("%w of %d s: it is %d s old by this machine's clock", ErrStale, v.tolerance, age)
	}
	return signature{mac: mac, timestamp: timestamp[0], seconds: seconds}, nil
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
