package grantexhook

import (
	"bytes"
	"context"
	"time"
)

// A Verification describes how a request was verified.
type Verification struct {
	// SecretIndex is 0 for the current secret and i+1 for PreviousSecrets[i].
	SecretIndex int
	// SentAt is when the sender signed this attempt, to the second. It is zero
	// if the delivery carried only [HeaderSignature].
	SentAt time.Time
}

// VerificationFrom returns how the request with the context ctx was verified, and
// false if it didn't pass through [Verifier.Middleware].
func VerificationFrom(ctx context.Context) (Verification, bool) {
	if b, ok := ctx.Value(verifiedKey{}).(*verifiedBody); ok {
		return b.Verification, true
	}
	return Verification{}, false
}

// A verifiedBody is the Body of a verified request, and a value in its context.
type verifiedBody struct {
	bytes.Reader
	Verification
	bytes []byte
}

func (*verifiedBody) Close() error { return nil }

type verifiedKey struct{}
