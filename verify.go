package grantexhook

import (
	"cmp"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The headers in which Grantex signs a delivery, in the canonical form of
// [http.Header]. Senders older than 2026-08-13 send only the first.
const (
	HeaderSignature   = "X-Grantex-Signature"    // "sha256=" and the hex HMAC-SHA256 of the body
	HeaderSignatureV2 = "X-Grantex-Signature-V2" // "sha256=" and the hex HMAC-SHA256 of "<timestamp>.<body>"
	HeaderTimestamp   = "X-Grantex-Timestamp"    // Unix seconds at which this attempt was sent
)

// DefaultTolerance is how far a timestamp may lie in the past or in the future
// if [Options] does not say otherwise. Grantex signs each attempt anew, so that
// even the last retry is fresh.
const DefaultTolerance = 5 * time.Minute

// DefaultMaxBody is the largest body in bytes that is read if [Options] does
// not say otherwise. The largest that Grantex can make was measured as 154,241.
const DefaultMaxBody = 256 << 10

// The reasons for which a delivery is not accepted, for use with [errors.Is].
// The text of the error that wraps one says more, for the operator's eyes; no
// secret, no signature and no part of the body is ever in it.
var (
	// ErrNoSignature means that the delivery carries no acceptable signature.
	ErrNoSignature = errors.New("grantexhook: no signature")
	// ErrBadSignature means that the signature is malformed, or doesn't match
	// this body and timestamp under any secret.
	ErrBadSignature = errors.New("grantexhook: bad signature")
	// ErrStale means that the timestamp is further away than the tolerance.
	ErrStale = errors.New("grantexhook: timestamp outside the tolerance")
)

// Options are the choices that [NewVerifier] offers. The zero value is ready to
// use and accepts what every Grantex sends. Options print without their secrets
// wherever fmt can call methods; see [Secret] for where it can't.
type Options struct {
	// PreviousSecrets are accepted as well, so that a secret can be replaced
	// while deliveries signed with the old one are still under way.
	PreviousSecrets []string

	// RequireTimestamp refuses deliveries that carry only the signature of the
	// body, which never expires: whoever records such a delivery can replay it
	// forever. Every Grantex since 2026-08-13 sends what this needs, so set it.
	RequireTimestamp bool

	// Tolerance is how far the timestamp may lie in the past or in the future,
	// in whole seconds: [DefaultTolerance] if zero; less than a second is an
	// error.
	Tolerance time.Duration

	// MaxBody is the largest body in bytes that is accepted: [DefaultMaxBody]
	// if zero; negative is an error.
	MaxBody int64

	// Refused, if set, is told of each request that [Verifier.Middleware]
	// refuses, before it is answered; the answer stays the middleware's. The
	// reason is one of the Reason constants. It must not read the body, and may
	// be called concurrently.
	Refused func(r *http.Request, reason string, err error)

	// Log gets each refusal too, at level Warn, with the first 200 characters of
	// the request's path. If nil, it's [slog.Default].
	Log *slog.Logger
}

// Format implements [fmt.Formatter]: each of the PreviousSecrets is shown as
// "[redacted]" under every verb but %p and %w, for which fmt doesn't call it.
func (o Options) Format(f fmt.State, verb rune) {
	type options Options // without this method
	shown := options(o)
	shown.PreviousSecrets = slices.Repeat([]string{redacted}, len(o.PreviousSecrets))
	fmt.Fprintf(f, fmt.FormatString(f, verb), shown)
}

// A Verifier tells deliveries that Grantex made with one of its secrets from
// all others. It is immutable and safe for concurrent use. The zero value has
// no secret and refuses everything.
type Verifier struct {
	keys             []*key
	requireTimestamp bool
	tolerance        int64 // seconds, as the timestamp counts them
	maxBody          int64
	refused          func(*http.Request, string, error)
	log              *slog.Logger
	warnOnce         *sync.Once // for the warning about missing deadlines
}

// NewVerifier returns a Verifier for the secret that Grantex showed when the
// endpoint was created. The key is the text of the secret as it stands: 48 hex
// digits, not decoded. A nil opts is the zero [Options].
//
// It returns an error if an option is out of range, or if a secret can't be what
// Grantex showed. Such a secret is empty or "[redacted]", has white space or
// quotes around it, ends with an escape such as \n, contains a character that
// doesn't print, or is an unexpanded placeholder such as ${NAME} or a whole
// assignment, NAME=value. Where GODEBUG=fips140=only is set, a secret needs at
// least 14 bytes. The error names every option and secret that is wrong, and shows
// no secret.
func NewVerifier(secret string, opts *Options) (*Verifier, error) {
	if opts == nil {
		opts = &Options{}
	}
	errs := []error{checkSecret("the secret", secret)}
	for i, s := range opts.PreviousSecrets {
		errs = append(errs, checkSecret(fmt.Sprintf("PreviousSecrets[%d]", i), s))
	}
	if opts.Tolerance < 0 || opts.Tolerance > 0 && opts.Tolerance < time.Second {
		errs = append(errs, fmt.Errorf("grantexhook: Tolerance is %v; it must be at least 1s, or 0 for %v", opts.Tolerance, DefaultTolerance))
	}
	if opts.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("grantexhook: MaxBody is %d; it must be positive, or 0 for %d", opts.MaxBody, DefaultMaxBody))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	v := &Verifier{
		keys:             []*key{newKey(secret)},
		requireTimestamp: opts.RequireTimestamp,
		tolerance:        int64(cmp.Or(opts.Tolerance, DefaultTolerance) / time.Second),
		maxBody:          cmp.Or(opts.MaxBody, DefaultMaxBody),
		refused:          opts.Refused,
		log:              opts.Log,
		warnOnce:         new(sync.Once),
	}
	for _, s := range opts.PreviousSecrets {
		v.keys = append(v.keys, newKey(s))
	}
	return v, nil
}

// Verify returns nil if the headers h of a delivery carry the right signature
// of its raw body, and otherwise an error that matches [ErrNoSignature],
// [ErrBadSignature] or [ErrStale]. The keys of h must be canonical, as the
// methods of [http.Header] make them. A signature header in any other form is an
// error, unless there's a canonical [HeaderSignatureV2], which then decides.
//
// If [HeaderSignatureV2] is present, it alone decides, together with
// [HeaderTimestamp]; a wrong one is not rescued by a right [HeaderSignature].
// Otherwise [HeaderSignature] decides, unless [Options].RequireTimestamp is
// set. It isn't accepted for a body that starts with a timestamp and a dot, since a
// recorded [HeaderSignatureV2] would be valid for such a body forever. Each of the
// three may be sent once at most.
func (v *Verifier) Verify(h http.Header, body []byte) error {
	now := time.Now()
	sig, err := v.parse(h, now)
	if err != nil {
		return err
	}
	_, err = v.decide(&sig, &page{data: body}, now)
	return err
}

// decide is the part of Verify that needs the whole body. now is when the body was
// complete: holding a delivery open must not extend its tolerance. decide returns
// the index of the secret that made sig.
func (v *Verifier) decide(sig *signature, body *page, now time.Time) (int, error) {
	if err := v.checkAge(sig, now); err != nil {
		return 0, err
	}
	// A V2 signature covers "<timestamp>.<body>". For a body with that text it
	// would be a valid legacy signature, which never expires. No event starts with
	// a timestamp.
	if sig.timestamp == "" && startsWithTimestamp(body.data) {
		return 0, fmt.Errorf("%w: the body starts with a timestamp, as only the text that %s covers does", ErrBadSignature, HeaderSignatureV2)
	}
	for i, k := range v.keys {
		if k.made(sig, body) {
			return i, nil
		}
	}
	size := body.size()
	if size == 0 {
		return 0, fmt.Errorf("%w: the body is empty; was it read before it was verified?", ErrBadSignature)
	}
	return 0, fmt.Errorf("%w: the signature doesn't match this %d-byte body under any secret", ErrBadSignature, size)
}

// VerifySignature reports whether signature, the value of [HeaderSignature], is
// the one that secret makes of the raw body payload: the check that the Grantex
// documentation describes. The signatures are compared in constant time. The
// result is false if the secret is empty. If GODEBUG=fips140=only is set, it's also
// false for a secret shorter than the 14 bytes that FIPS 140-3 requires.
// [Verifier.Verify] also checks timestamps, accepts several secrets, and is faster.
func VerifySignature(payload []byte, signature, secret string) bool {
	mac, ok := parseMAC(signature)
	return ok && secret != "" && !tooShortForFIPS(secret) && hmac.Equal(sum(secret, payload), mac[:])
}

// Sign sets the headers with which Grantex would sign body when it sends it at
// the given time. It is for tests and tools. If GODEBUG=fips140=only is set, it
// panics if secret has fewer than 14 bytes.
func Sign(h http.Header, secret string, body []byte, at time.Time) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, macPrefix+hex.EncodeToString(sum(secret, body)))
	h.Set(HeaderSignatureV2, macPrefix+hex.EncodeToString(sum(secret, []byte(timestamp+"."), body)))
}
