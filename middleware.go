package grantexhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The reasons for a refusal that [Options].Refused is told.
const (
	ReasonNoSignature  = "no_signature"
	ReasonBadSignature = "bad_signature"
	ReasonStale        = "stale"
	ReasonTooLarge     = "too_large"
	ReasonUnreadable   = "unreadable"
)

const (
	// readTimeout is the time that Grantex gives the whole exchange: nobody
	// waits for the answer to a body that takes longer.
	readTimeout = 10 * time.Second

	// drainTimeout is how long the rest of a body that nobody wants may keep
	// its answer waiting.
	drainTimeout = 500 * time.Millisecond
)

// A Verification says how a request was verified.
type Verification struct {
	// SecretIndex is 0 for the current secret and i+1 for PreviousSecrets[i].
	SecretIndex int
	// SentAt is when the sender signed this attempt, to the second. It is zero
	// if the delivery carried only the signature of the body.
	SentAt time.Time
}

// VerificationFrom returns how the request with the context ctx was verified,
// and false if it did not come through [Verifier.Middleware].
func VerificationFrom(ctx context.Context) (Verification, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok {
		return Verification{}, false
	}
	return d.Verification, true
}

type deliveryKey struct{}

// A delivery is what is known of a verified request: it is the request's Body,
// and the value in its context.
type delivery struct {
	bytes.Reader
	Verification
	body []byte
}

func (*delivery) Close() error { return nil }

// Middleware returns a handler that hands the requests that Grantex signed on
// to next and refuses all others. It is safe for concurrent use, and panics if
// next is nil.
//
// The Body of a request that is handed on yields exactly the verified bytes,
// ContentLength is their number, and [VerificationFrom] tells how they were
// verified. The answer to any other is a bare 401 if the signature is missing,
// malformed, wrong or stale, 413 if the body is larger than MaxBody, and 400 if
// it could not be read. It never says why; Refused and Log are told.
//
// The body has to come within ten seconds, after which Grantex hangs up, or
// within the ReadTimeout of the [http.Server] if that is shorter. What the
// headers alone rule out is refused before the body is read. Both need a
// ResponseWriter that supports read deadlines (see [http.ResponseController]).
// With one that does not, such as that of [http.TimeoutHandler], a refusal is
// answered at once, but net/http keeps the connection until the rest of the body
// has come, and a body that stops coming is waited for without end. Set the
// ReadTimeout of the Server there: it bounds both.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	if v == nil || next == nil {
		panic("grantexhook: Middleware needs a Verifier and a handler; did NewVerifier return an error?")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := v.receive(w, r)
		if err != nil {
			v.refuse(w, r, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), deliveryKey{}, d))
		r.Body, r.ContentLength, r.TransferEncoding = d, d.Size(), nil
		next.ServeHTTP(w, r)
	})
}

// receive reads and verifies a delivery.
func (v *Verifier) receive(w http.ResponseWriter, r *http.Request) (*delivery, error) {
	now := time.Now()
	sig, err := v.parse(r.Header, now)
	if err != nil {
		return nil, err
	}
	body := newPage()
	defer body.free()
	if err := v.read(body, w, r, now); err != nil {
		return nil, err
	}
	index, err := v.decide(&sig, body, now)
	if err != nil {
		return nil, err
	}
	d := &delivery{
		Verification: Verification{SecretIndex: index, SentAt: sig.sentAt()},
		body:         body.clone(),
	}
	d.Reset(d.body)
	return d, nil
}

func (v *Verifier) read(body *page, w http.ResponseWriter, r *http.Request, now time.Time) error {
	if r.ContentLength > v.maxBody {
		return unreadable(&http.MaxBytesError{Limit: v.maxBody})
	}
	rc := http.NewResponseController(w)
	if !readsFasterThan(readTimeout, r) {
		rc.SetReadDeadline(now.Add(readTimeout)) // where it is not supported, the doc of Middleware says what follows
	}
	if err := body.readFrom(http.MaxBytesReader(w, r.Body, v.maxBody)); err != nil {
		return unreadable(err)
	}
	// If the body was read before and put back, net/http is watching the
	// connection already, and would take the passing of the deadline for a lost
	// one and cancel the context. Otherwise it has cleared the deadline itself.
	rc.SetReadDeadline(time.Time{})
	return nil
}

// unreadable keeps of err only what cannot quote the body: a broken framing makes
// net/http take part of it for a trailer, and say which.
func unreadable(err error) error {
	_, network := errors.AsType[net.Error](err)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	if network || tooLarge || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("grantexhook: reading the body: %w", err)
	}
	return errors.New("grantexhook: reading the body: it is malformed")
}

// readsFasterThan reports whether the Server's own ReadTimeout ends before d.
func readsFasterThan(d time.Duration, r *http.Request) bool {
	s, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	return ok && s.ReadTimeout > 0 && s.ReadTimeout < d
}

func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	reason, status := refusal(err)
	log := v.log
	if log == nil {
		log = slog.Default()
	}
	log.LogAttrs(r.Context(), slog.LevelWarn, "grantexhook: request refused",
		slog.Int("status", status), slog.String("reason", reason), slog.Any("error", err), slog.String("remote", r.RemoteAddr))
	if v.refused != nil {
		v.refused(r, reason, err)
	}

	drain(w, r)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Grantex-Signature") // RFC 9110, section 15.5.2: a 401 has to name a scheme
	}
	http.Error(w, http.StatusText(status), status)
}

// drain reads what is left of the body for a short time before the answer is
// written. net/http would wait for the rest without end; and if the connection
// were closed with bytes unread, the reset could destroy the answer. Once the
// body is at its end, the deadline has to go: if it passed, net/http would take
// the connection for lost and cancel its context. HTTP/2 needs none of this.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 {
		return
	}
	rc := http.NewResponseController(w)
	err := rc.SetReadDeadline(time.Now().Add(drainTimeout))
	if err == nil && r.Header.Get("Expect") == "" { // reading could ask for a body that has not been sent
		_, err = io.CopyN(io.Discard, r.Body, DefaultMaxBody)
	}
	if err == io.EOF {
		rc.SetReadDeadline(time.Time{})
		return
	}
	w.Header().Set("Connection", "close")
}

func refusal(err error) (reason string, status int) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, ErrNoSignature):
		return ReasonNoSignature, http.StatusUnauthorized
	case errors.Is(err, ErrBadSignature):
		return ReasonBadSignature, http.StatusUnauthorized
	case errors.Is(err, ErrStale):
		return ReasonStale, http.StatusUnauthorized
	case errors.As(err, &tooLarge):
		return ReasonTooLarge, http.StatusRequestEntityTooLarge
	default:
		return ReasonUnreadable, http.StatusBadRequest
	}
}
