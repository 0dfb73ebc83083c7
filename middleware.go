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
	"strings"
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

	// maxDrain is how many bytes of such a body are read at most.
	maxDrain = 4 << 20
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

// Middleware returns a handler that passes requests signed by Grantex to next and
// rejects the rest. It is safe for concurrent use, and panics if next is nil.
//
// The Body of a request that is passed on contains exactly the verified bytes, and
// ContentLength is their number. [VerificationFrom] returns how they were
// verified. A rejected request gets a bare 401 if its signature is missing,
// malformed, wrong or stale, 413 if the body is larger than MaxBody, and 400 if
// the body can't be read. The response never says why; the reason goes to
// Options.Refused and Options.Log.
//
// The body must arrive within ten seconds, after which Grantex hangs up, or
// within the ReadTimeout of the [http.Server] if that is shorter. The timestamp
// must still be within the tolerance when the last byte has arrived. If the
// headers alone rule a request out, its body isn't verified. What is left of a
// rejected body is read and discarded, up to 4 MiB and for half a second at most:
// a sender that is still writing might not see the response otherwise. A body that
// isn't verified yet takes about as much memory as has arrived, MaxBody at most,
// so bound the connections of the Server: at the proxy before it, or with a
// limiting [net.Listener]. If another middleware limits bodies before this one, it
// should use [http.MaxBytesReader]. An [io.LimitReader] hides that the body hasn't
// ended, so the connection waits for the rest of it without a deadline.
//
// The time limits need a ResponseWriter that supports read deadlines (see
// [http.ResponseController]). Some that wrap the Server's own don't, for example
// the one of [http.TimeoutHandler]. Behind it a slow body, or a rejected sender
// that stops sending, can hold a connection as long as the Server lets it. Set the
// Server's ReadTimeout there. Unless that is below ten seconds, the first body read
// there is logged at level Warn.
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
	sig, err := v.parse(r.Header, time.Now())
	if err != nil {
		return nil, err
	}
	body := newPage()
	defer body.free()
	if err := v.read(body, w, r); err != nil {
		return nil, err
	}
	index, err := v.decide(&sig, body, time.Now())
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

func (v *Verifier) read(body *page, w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > v.maxBody {
		return unreadable(&http.MaxBytesError{Limit: v.maxBody})
	}
	rc := http.NewResponseController(w)
	if !readsFasterThan(readTimeout, r) && errors.Is(rc.SetReadDeadline(time.Now().Add(readTimeout)), http.ErrNotSupported) {
		v.warnNoDeadline(r)
	}
	if err := body.readFrom(http.MaxBytesReader(w, bodyOf(r), v.maxBody)); err != nil {
		return unreadable(err)
	}
	// If the body was read before and put back, net/http is watching the
	// connection already, and would take the passing of the deadline for a lost
	// one and cancel the context. Otherwise it has cleared the deadline itself.
	rc.SetReadDeadline(time.Time{})
	return nil
}

// bodyOf returns the body of r, or an empty one if it's nil, as it may be in a
// request that was made for a client.
func bodyOf(r *http.Request) io.ReadCloser {
	if r.Body == nil {
		return http.NoBody
	}
	return r.Body
}

// warnNoDeadline logs once that a slow body can hold a connection of the Server.
// Without a Server, as with a recorder, there are no connections to hold.
func (v *Verifier) warnNoDeadline(r *http.Request) {
	if server(r) == nil {
		return
	}
	v.warnOnce.Do(func() {
		v.logger().LogAttrs(r.Context(), slog.LevelWarn, "grantexhook: the ResponseWriter doesn't support read deadlines, so a slow body can hold its connection; "+
			"set the Server's ReadTimeout to less than 10s, or move Middleware outside the handler that wraps the ResponseWriter", pathOf(r))
	})
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
	s := server(r)
	return s != nil && s.ReadTimeout > 0 && s.ReadTimeout < d
}

func server(r *http.Request) *http.Server {
	s, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return s
}

// refuse drains the body first. Whatever Log and Refused do, even panic, must not
// leave the connection waiting for the rest of a body.
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	drain(w, r)
	reason, status := refusal(err)
	v.logger().LogAttrs(r.Context(), slog.LevelWarn, "grantexhook: request refused",
		slog.Int("status", status), slog.String("reason", reason), slog.Any("error", err), slog.String("remote", r.RemoteAddr), pathOf(r))
	if v.refused != nil {
		v.refused(r, reason, err)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Grantex-Signature") // RFC 9110, section 15.5.2: a 401 has to name a scheme
	}
	http.Error(w, http.StatusText(status), status)
}

func (v *Verifier) logger() *slog.Logger {
	if v.log == nil {
		return slog.Default()
	}
	return v.log
}

// pathOf leaves out the query, which may contain what doesn't belong in a log. It
// shortens the path, which can be as long as the sender likes.
func pathOf(r *http.Request) slog.Attr {
	path := ""
	if r.URL != nil {
		path = r.URL.Path
	}
	return slog.String("path", fmt.Sprintf("%.200s", path))
}

// drain reads the rest of the body before the response is written, up to a limit in
// time and size. net/http would wait for the rest forever. If the connection were
// closed with bytes unread or still to come, the reset could destroy the response.
// At the end of the body the deadline must be cleared: if it passed, net/http would
// consider the connection lost and cancel its context. HTTP/2 doesn't need any of
// this.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 {
		return
	}
	rc := http.NewResponseController(w)
	err := rc.SetReadDeadline(time.Now().Add(drainTimeout))
	if err == nil && r.Header.Get("Expect") == "" { // reading could ask for a body that has not been sent
		if _, err = io.Copy(io.Discard, http.MaxBytesReader(w, bodyOf(r), maxDrain)); err == nil {
			rc.SetReadDeadline(time.Time{})
			return
		}
	}
	linger(w)
}

// linger makes net/http close its own side of the connection first and then wait,
// so a sender that is still writing gets to read the response. net/http only does
// this when MaxBytesReader finds a body too large. There's no other way to ask for
// it, so linger gives MaxBytesReader a body that is. MaxBytesReader needs the
// Server's own ResponseWriter, not a wrapper.
func linger(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	io.Copy(io.Discard, http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0))
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
