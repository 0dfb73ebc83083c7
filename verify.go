package grantexhook

import (
	"cmp"
	"crypto/hmac"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// The headers in which Grantex signs a delivery, in the canonical form of
// [http.Header]. Senders older than 2026-08-13 send only the first.
const (
	HeaderSignature   = "X-Grantex-Signature"    // "sha256=" and the hex HMAC-SHA256 of the body
	HeaderSignatureV2 = "X-Grantex-Signature-V2" // "sha256=" and the hex HMAC-SHA256 of "<timestamp>.<body>"
	HeaderTimestamp   = "X-Grantex-Timestamp"    // Unix seconds at which this attempt was sent
)

// DefaultTolerance is how far a timestamp may lie in the past or in the future,
// unless [Options] sets another tolerance. Grantex signs each attempt with a new
// timestamp, so even the last retry is fresh.
const DefaultTolerance = 5 * time.Minute

// DefaultMaxBody is the size in bytes of the largest body that is accepted, unless
// [Options] sets another limit. Grantex sends 154,241 bytes at most.
const DefaultMaxBody = 256 << 10

// The reasons why a delivery is rejected, for use with [errors.Is]. The error that
// wraps one says more, for the operator. It never contains a secret, a signature or
// a part of the body.
var (
	// ErrNoSignature means that the delivery carries no acceptable signature.
	ErrNoSignature = errors.New("grantexhook: no signature")
	// ErrBadSignature means that the signature is malformed, or doesn't match
	// this body and timestamp under any secret.
	ErrBadSignature = errors.New("grantexhook: bad signature")
	// ErrStale means that the timestamp is outside the tolerance.
	ErrStale = errors.New("grantexhook: timestamp outside the tolerance")
)

// Options are the options of [NewVerifier]. The zero value is ready to use and
// accepts deliveries from every version of Grantex. Options print without their
// secrets, with the exceptions that [Secret] lists.
type Options struct {
	// PreviousSecrets are accepted as well. Use them to replace a secret while
	// deliveries signed with the old one can still arrive.
	PreviousSecrets []string

	// RequireTimestamp rejects deliveries with only a [HeaderSignature]. Such a
	// signature never expires, so anyone who captures a delivery can replay it.
	// Grantex has sent timestamps since 2026-08-13, so you should set this.
	RequireTimestamp bool

	// Tolerance is how far the timestamp may lie in the past or in the future, in
	// whole seconds. If zero, it's [DefaultTolerance]. Less than a second is an error.
	Tolerance time.Duration

	// MaxBody is the size in bytes of the largest body that is accepted. If zero,
	// it's [DefaultMaxBody]. A negative value is an error.
	MaxBody int64

	// Refused, if set, is called for each request that [Verifier.Middleware]
	// rejects, before the response is written. The reason is one of the Reason
	// constants. Refused can't change the response and must not read the body. It
	// may be called concurrently.
	Refused func(r *http.Request, reason string, err error)

	// Log also gets each rejected request, at level Warn, with the first 200
	// characters of its path. If nil, it's [slog.Default].
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

// A Verifier checks that deliveries were signed by Grantex with one of its secrets.
// It is immutable and safe for concurrent use. The zero value has no secret and
// rejects everything.
type Verifier struct {
	keys     []*key
	opts     Options    // without its zero values and its secrets
	warnOnce *sync.Once // for the warning about missing deadlines
}

// NewVerifier returns a Verifier for the secret that Grantex showed when the
// endpoint was created. The key is the text of the secret: 48 hex digits that
// aren't decoded. A nil opts is the zero [Options].
//
// It returns an error if an option is out of range, or if a secret can't be what
// Grantex showed: for example, if it is empty, is "[redacted]", has quotes or white
// space around it, or is an unexpanded placeholder such as ${NAME}. With
// GODEBUG=fips140=only, a secret must have at least 14 bytes. The error names every
// option and secret that is wrong, and never contains a secret.
func NewVerifier(secret string, opts *Options) (*Verifier, error) {
	if opts == nil {
		opts = &Options{}
	}
	v := &Verifier{opts: *opts, warnOnce: new(sync.Once)}
	var errs []error
	name := "the secret"
	for i, s := range append([]string{secret}, opts.PreviousSecrets...) {
		v.keys = append(v.keys, newKey(s))
		if mistake := mistakeIn(s); mistake != "" {
			errs = append(errs, fmt.Errorf("grantexhook: %s %s", name, mistake))
		}
		name = fmt.Sprintf("PreviousSecrets[%d]", i) // the next
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
	v.opts.PreviousSecrets = nil
	v.opts.Tolerance = cmp.Or(opts.Tolerance, DefaultTolerance)
	v.opts.MaxBody = cmp.Or(opts.MaxBody, DefaultMaxBody)
	return v, nil
}

// Verify returns nil if the headers h carry a valid signature of body, which must
// be the raw bytes of the delivery. Otherwise it returns an error that matches
// [ErrNoSignature], [ErrBadSignature] or [ErrStale].
//
// If [HeaderSignatureV2] is present, only that signature counts, together with
// [HeaderTimestamp]. Otherwise [HeaderSignature] counts, unless
// [Options].RequireTimestamp is set. It doesn't count for a body that starts with a
// timestamp and a dot: a recorded V2 signature would be valid for that body forever.
//
// Each of the three headers may be sent at most once. The keys of h must be
// canonical, as the methods of [http.Header] make them. A signature header in
// another form is an error, unless there is a canonical [HeaderSignatureV2].
func (v *Verifier) Verify(h http.Header, body []byte) error {
	now := time.Now()
	sig, err := v.parse(h, now)
	if err != nil {
		return err
	}
	_, err = v.decide(&sig, &page{data: body}, now)
	return err
}

// parse is the part of Verify that doesn't need the body. A delivery that fails
// here can't be valid, whatever its body is.
func (v *Verifier) parse(h http.Header, now time.Time) (sig signature, err error) {
	legacy, v2, timestamp := h[HeaderSignature], h[HeaderSignatureV2], h[HeaderTimestamp]
	switch {
	case len(v.keys) == 0:
		return sig, fmt.Errorf("%w: this Verifier has no secret; make it with NewVerifier", ErrBadSignature)
	case len(legacy) > 1 || len(v2) > 1 || len(timestamp) > 1:
		return sig, fmt.Errorf("%w: a signature header was sent more than once", ErrBadSignature)
	case len(v2) == 1:
		return v.parseV2(v2[0], timestamp, now)
	case hasOtherForm(h):
		err = ErrNoSignature
		if len(legacy)+len(timestamp) > 0 { // a signature is there but incomplete
			err = ErrBadSignature
		}
		return sig, fmt.Errorf("%w: a signature header is not in canonical form; set each header with http.Header.Set", err)
	case len(legacy) == 0:
		return sig, ErrNoSignature
	case v.opts.RequireTimestamp:
		return sig, fmt.Errorf("%w: RequireTimestamp is set, but there is only %s", ErrNoSignature, HeaderSignature)
	}
	var ok bool
	if sig.mac, ok = parseMAC(legacy[0]); !ok {
		err = fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderSignature)
	}
	return sig, err
}

func (v *Verifier) parseV2(value string, timestamp []string, now time.Time) (sig signature, err error) {
	var ok bool
	if sig.mac, ok = parseMAC(value); !ok {
		return sig, fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderSignatureV2)
	}
	if len(timestamp) == 0 {
		return sig, fmt.Errorf("%w: %s without %s", ErrBadSignature, HeaderSignatureV2, HeaderTimestamp)
	}
	sig.timestamp = timestamp[0]
	if sig.sentAt, ok = parseTimestamp(sig.timestamp); !ok {
		return sig, fmt.Errorf("%w: %s is malformed", ErrBadSignature, HeaderTimestamp)
	}
	return sig, v.checkAge(&sig, now)
}

// hasOtherForm reports whether h has a signature header that isn't in canonical form,
// as the map of an API gateway may: in lower case, with a space around it, or with
// underscores. It could be the V2 signature that should decide.
func hasOtherForm(h http.Header) bool {
	padding := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	for key := range h {
		if len(key) < len(HeaderTimestamp) || key == HeaderSignature || key == HeaderTimestamp {
			continue // only for speed
		}
		name := strings.ReplaceAll(strings.TrimFunc(key, padding), "_", "-")
		switch http.CanonicalHeaderKey(name) {
		case key:
		case HeaderSignature, HeaderSignatureV2, HeaderTimestamp:
			return true
		}
	}
	return false
}

// checkAge accepts a signature without a timestamp, since its age is unknown.
func (v *Verifier) checkAge(sig *signature, now time.Time) error {
	tolerance := int64(v.opts.Tolerance / time.Second) // as the timestamp counts
	age := now.Unix() - sig.sentAt.Unix()
	switch {
	case sig.timestamp == "" || -tolerance <= age && age <= tolerance:
		return nil
	case age < 0:
		return fmt.Errorf("%w of %d s: it's %d s in the future by this machine's clock", ErrStale, tolerance, -age)
	default:
		return fmt.Errorf("%w of %d s: it's %d s old by this machine's clock", ErrStale, tolerance, age)
	}
}

// decide is the part of Verify that needs the whole body. now is when the body was
// complete: holding a delivery open must not extend its tolerance. decide returns
// the index of the secret that made sig.
func (v *Verifier) decide(sig *signature, body *page, now time.Time) (int, error) {
	if err := v.checkAge(sig, now); err != nil {
		return 0, err
	}
	// A recorded V2 signature would be a valid legacy signature of "<timestamp>.<body>",
	// and never expire. Events never start with a timestamp.
	if sig.timestamp == "" && startsWithTimestamp(body.data) {
		return 0, fmt.Errorf("%w: the body starts with a timestamp, like the text that %s covers", ErrBadSignature, HeaderSignatureV2)
	}
	for i, k := range v.keys {
		if mac := k.mac(sig.timestamp, body); hmac.Equal(mac[:], sig.mac[:]) {
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
// valid for the raw body payload under secret. This is the check that the Grantex
// documentation describes, in constant time. The result is false if the secret is
// empty or, with GODEBUG=fips140=only, has fewer than 14 bytes. [Verifier.Verify]
// also checks timestamps, accepts several secrets, and is faster.
func VerifySignature(payload []byte, signature, secret string) bool {
	got, ok := parseMAC(signature)
	if !ok || secret == "" || tooShortForFIPS(secret) {
		return false
	}
	want := newKey(secret).mac("", &page{data: payload})
	return hmac.Equal(got[:], want[:])
}

// Sign sets the headers that Grantex would send with body at the given time. It is
// for tests and tools. With GODEBUG=fips140=only, it panics if secret has fewer than
// 14 bytes.
func Sign(h http.Header, secret string, body []byte, at time.Time) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	k, p := newKey(secret), &page{data: body}
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, formatMAC(k.mac("", p)))
	h.Set(HeaderSignatureV2, formatMAC(k.mac(timestamp, p)))
}
