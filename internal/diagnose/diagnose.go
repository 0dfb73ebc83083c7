// Package diagnose finds the mistakes that explain why the signature of a delivery
// doesn't match. It tries the usual ones, alone and together, until a signature
// made that way equals the one received.
package diagnose

import (
	"crypto/fips140"
	"crypto/hmac"
	"hash"
	"net/http"
	"slices"

	"grantex.dev/grantexhook"
)

// A Kind groups mistakes that have the same remedy.
type Kind int

const (
	SecretWrapped    Kind = iota // the secret has something around it, for example a newline
	SecretEncoded                // the secret is an encoding of the right one
	SecretDecoded                // the key must be the secret's text
	SecretNewline                // the key had a newline after the secret
	BodyEnd                      // a newline was added to the body
	BodyChanged                  // something changed the bytes of the body
	BodyEncoded                  // the body is an encoding of the right one
	BodyRewritten                // the body was decoded from JSON and encoded again
	TimestampUnit                // the timestamp isn't in whole seconds
	SignedBodyAlone              // the V2 signature leaves the timestamp out
	SignedTimestamp              // the legacy signature includes the timestamp
	SignedWithoutDot             // there's no dot after the timestamp
	HeaderForm                   // the value isn't sha256= and 64 hex digits
	V2Changed                    // only the legacy signature matches
)

// A Mistake explains, alone or together with others, why a signature doesn't match.
type Mistake struct {
	Kind Kind
	Text string // what is wrong, without a capital or full stop; never a secret or signature
}

const (
	// maxSignatures bounds how many values of one header are considered.
	maxSignatures = 3

	// What a search counts as work, measured in hashed bytes.
	transformCost = 8   // of each byte that is transformed
	hashCost      = 512 // of a signature, in addition to its bytes
)

// maxWork bounds a search. It takes less than half a second. Tests lower it.
var maxWork = 128 << 20

// Explain returns the mistakes that together explain why the delivery doesn't
// verify with this secret. It returns an empty slice if it finds no explanation. The
// header that decides comes first. If only the other one matches, [V2Changed] is
// among the mistakes. Explain takes about a second at most, and little memory,
// whatever it's given.
func Explain(header http.Header, body []byte, secret string) (found []Mistake) {
	fips140.WithoutEnforcement(func() { // a guess may be a short key or SHA-1, and need not be secure
		found = explain(header, body, secret)
	})
	return found
}

func explain(header http.Header, body []byte, secret string) []Mistake {
	v2, legacy := claims(header, grantexhook.HeaderSignatureV2), claims(header, grantexhook.HeaderSignature)
	first, second := v2, legacy
	if len(v2) == 0 {
		first, second = legacy, nil
	}
	s := &search{body: body, secrets: secrets(secret), times: times(header.Get(grantexhook.HeaderTimestamp))}
	if found, ok := s.run(first); ok {
		return found
	}
	if header.Get(grantexhook.HeaderTimestamp) == "" {
		return malformed(first)
	}
	if found, ok := s.run(second); ok {
		return append(found, Mistake{V2Changed, grantexhook.HeaderSignature + " matches, but " + grantexhook.HeaderSignatureV2 + ", which decides, doesn't"})
	}
	return malformed(first)
}

// malformed returns the mistakes that a value itself shows.
func malformed(all []claim) []Mistake {
	for _, c := range all {
		if len(c.mistakes) > 0 {
			return c.mistakes
		}
	}
	return nil
}

// A guess is what may have been signed, or signed with, if these mistakes were
// made.
type guess struct {
	value    []byte
	mistakes []Mistake
}

// and returns the guess with another mistake.
func (g guess) and(value []byte, m Mistake) guess {
	return guess{value, append(slices.Clip(g.mistakes), m)}
}

// A search tries combinations of guesses, those with few mistakes first, until one
// matches or its work is done.
type search struct {
	body           []byte
	secrets, times []guess
	work           int
}

// run returns the mistakes of the first combination that matches one of the claims.
func (s *search) run(all []claim) (found []Mistake, ok bool) {
	s.work = 0
	rounds := []struct {
		secrets []guess
		changes int // of the body
	}{{s.secrets, 0}, {s.secrets[:1], 1}, {s.secrets[1:], 1}, {s.secrets[:1], 2}, {s.secrets[1:], 2}}
	for _, r := range rounds {
		for _, c := range all {
			if found, ok := s.try(c, r.secrets, r.changes); ok {
				return found, true
			}
		}
	}
	return nil, false
}

func (s *search) try(c claim, secrets []guess, changes int) (found []Mistake, ok bool) {
	macs := make([]hash.Hash, len(secrets))
	for i, k := range secrets {
		macs[i] = hmac.New(c.hash, k.value)
	}
	prefixes := prefixes(c.header, s.times)
	for body := range s.bodies(guess{value: s.body}, changes) {
		for i, k := range secrets {
			for _, p := range prefixes {
				if s.matches(macs[i], c.mac, p.value, body.value) {
					return slices.Concat(k.mistakes, body.mistakes, p.mistakes, c.mistakes), true
				}
			}
		}
	}
	return nil, false
}

func (s *search) matches(mac hash.Hash, want, prefix, body []byte) bool {
	if s.work > maxWork {
		return false
	}
	s.work += hashCost + len(prefix) + len(body)
	mac.Reset()
	mac.Write(prefix)
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), want)
}
