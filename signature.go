package grantexhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A signature is what the headers of a delivery claim.
type signature struct {
	mac       [sha256.Size]byte
	timestamp string    // as sent, since these bytes are signed; empty for the legacy signature
	sentAt    time.Time // the same as a time
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

func formatMAC(mac [sha256.Size]byte) string { return macPrefix + hex.EncodeToString(mac[:]) }

// maxDigits is the length of the largest number of seconds that fits an int64.
const maxDigits = 19

// parseTimestamp accepts only digits. A time that isn't negative also keeps the
// comparison with the clock from overflowing.
func parseTimestamp(value string) (time.Time, bool) {
	seconds, err := strconv.ParseUint(value, 10, 63)
	return time.Unix(int64(seconds), 0), err == nil && len(value) <= maxDigits
}

// startsWithTimestamp reports whether a V2 signature could cover body, which would
// then be "<timestamp>.<body>".
func startsWithTimestamp(body []byte) bool {
	digits, _, found := bytes.Cut(body[:min(len(body), maxDigits+1)], []byte("."))
	return found && len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0
}

// A key makes the MACs of one secret. It pools its hashes: one that is reset keeps the
// state derived from the secret, which costs as much as hashing 128 bytes.
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

// mac returns the MAC of the body, with a timestamp in front if there is one.
func (k *key) mac(timestamp string, body *page) [sha256.Size]byte {
	h := k.hashes.Get().(*keyedHash)
	defer k.hashes.Put(h)
	h.Reset()
	if timestamp != "" {
		h.Write(append(append(h.prefix[:0], timestamp...), '.'))
	}
	for ; body != nil; body = body.next {
		h.Write(body.data)
	}
	h.Sum(h.sum[:0])
	return h.sum
}
