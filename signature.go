package grantexhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"
	"sync"
	"time"
)

// A signature is what the headers of a delivery claim.
type signature struct {
	mac       [sha256.Size]byte
	timestamp string // as sent, since these bytes are signed; empty for the legacy signature
	seconds   int64  // the same as a number
}

func (s *signature) sentAt() time.Time {
	if s.timestamp == "" {
		return time.Time{}
	}
	return time.Unix(s.seconds, 0)
}

const macPrefix = "sha256="

// parseMAC accepts hex digits in either case, because MACs are compared decoded.
func parseMAC(value string) (mac [sha256.Size]byte, ok bool) {
	digits, ok := strings.CutPrefix(value, macPrefix)
	if !ok || len(digits) != hex.EncodedLen(len(mac)) {
		return mac, false
	}
	_, err := hex.Decode(mac[:], []byte(digits))
	return mac, err == nil
}

func formatMAC(mac []byte) string { return macPrefix + hex.EncodeToString(mac) }

func sum(secret string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// maxDigits is the length of the largest number of seconds that fits an int64.
const maxDigits = 19

// startsWithTimestamp reports whether a V2 signature could cover body, which would
// then be "<timestamp>.<body>".
func startsWithTimestamp(body []byte) bool {
	digits := 0
	for digits < len(body) && '0' <= body[digits] && body[digits] <= '9' {
		digits++
	}
	return 1 <= digits && digits <= maxDigits && digits < len(body) && body[digits] == '.'
}

// A key makes the MACs of one secret. It pools its hashes: an HMAC that is reset
// keeps the state derived from the secret. Deriving that again costs as much as
// hashing 128 bytes.
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

// made reports in constant time whether sig is the signature of body under k.
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
