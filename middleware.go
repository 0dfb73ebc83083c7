package grantexhook

import (
	"cmp"
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

// The reasons why a request is rejected, as passed to [Options].Refused.
const (
	ReasonNoSignature  = "no_signature"  // 401
	ReasonBadSignature = "bad_signature" // 401
	ReasonStale        = "stale"         // 401
	ReasonTooLarge     = "too_large"     // 413
	ReasonUnreadable   = "unreadable"    // 400
)

const (
	readTimeout  = 10 * time.Second       // as long as Grantex waits for a response
	drainTimeout = 500 * time.Millisecond // for the rest of a rejected body
	maxDrain     = 4 << 20                // bytes of that rest
)

// Middleware returns a handler that passes requests signed by Grantex to next and
// rejects the rest. It is safe for concurrent use, and panics if next is nil.
//
// The body of a request that is passed on contains exactly the verified bytes, and
// ContentLength is their number. [VerificationFrom] returns how they were verified.
// A rejected request gets a bare 401, 413 or 400; see the Reason constants. The
// response never says why. The reason goes to Options.Refused and Options.Log.
//
// The body must arrive within ten seconds, or within the ReadTimeout of the
// [http.Server] if that is shorter. The timestamp must still be within the
// tolerance when the last byte arrives. If the headers alone rule a request out,
// its body isn't verified. The rest of a rejected body is read and discarded, up to
// 4 MiB and for half a second: a sender that is still writing might not see the
// response otherwise.
//
// An unverified body takes about as much memory as has arrived, at most MaxBody.
// You should limit the Server's connections, at a proxy or with a limiting
// [net.Listener]. A middleware that limits bodies before this one should use
// [http.MaxBytesReader]. An [io.LimitReader] hides that a body is longer, and the
// connection then waits for the rest without a deadline.
//
// The time limits need a ResponseWriter that supports read deadlines; see
// [http.ResponseController]. Some wrappers don't, for example in [http.TimeoutHandler].
// A slow sender can then hold a connection as long as the Server allows, so set its
// ReadTimeout to less than ten seconds. Otherwise the first such request is logged at
// level Warn.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	if v == nil || next == nil {
		panic("grantexhook: Middleware needs a Verifier and a handler; did NewVerifier return an error?")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil { // as in a request that was made for a client
			r = r.WithContext(r.Context()) // a copy
			r.Body = http.NoBody
		}
		body, err := v.receive(w, r)
		if err != nil {
			v.refuse(w, r, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), verifiedKey{}, body))
		r.Body, r.ContentLength, r.TransferEncoding = body, body.Size(), nil
		next.ServeHTTP(w, r)
	})
}

// receive reads and verifies a delivery.
func (v *Verifier) receive(w http.ResponseWriter, r *http.Request) (*verifiedBody, error) {
	start := time.Now()
	sig, err := v.parse(r.Header, start)
	if err != nil {
		return nil, err
	}
	body := newPage()
	defer body.free()
	if err := v.read(body, w, r, start.Add(readTimeout)); err != nil {
		return nil, err
	}
	index, err := v.decide(&sig, body, time.Now())
	if err != nil {
		return nil, err
	}
	b := &verifiedBody{Verification: Verification{SecretIndex: index, SentAt: sig.sentAt}, bytes: body.clone()}
	b.Reset(b.bytes)
	return b, nil
}

func (v *Verifier) read(body *page, w http.ResponseWriter, r *http.Request, deadline time.Time) error {
	if r.ContentLength > v.opts.MaxBody {
		return unreadable(&http.MaxBytesError{Limit: v.opts.MaxBody})
	}
	rc := http.NewResponseController(w)
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if server == nil || server.ReadTimeout <= 0 || server.ReadTimeout >= readTimeout {
		err := rc.SetReadDeadline(deadline)
		if server != nil && errors.Is(err, http.ErrNotSupported) {
			v.warnOnce.Do(func() { v.logger().LogAttrs(r.Context(), slog.LevelWarn, noDeadline, pathOf(r)) })
		}
	}
	if err := body.readFrom(http.MaxBytesReader(w, r.Body, v.opts.MaxBody)); err != nil {
		return unreadable(err)
	}
	// If the body was read before and put back, net/http already watches the
	// connection: a deadline that passes would look like a lost connection and
	// cancel the request's context. Otherwise net/http has cleared the deadline.
	rc.SetReadDeadline(time.Time{})
	return nil
}

const noDeadline = "grantexhook: the ResponseWriter doesn't support read deadlines, so a slow body can hold its connection; " +
	"set the Server's ReadTimeout to less than 10s, or move Middleware outside the handler that wraps the ResponseWriter"

// unreadable keeps only errors that can't quote the body. After broken chunks,
// net/http takes part of the body for a trailer and quotes it.
func unreadable(err error) error {
	_, network := errors.AsType[net.Error](err)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	if network || tooLarge || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("grantexhook: reading the body: %w", err)
	}
	return errors.New("grantexhook: reading the body: it is malformed")
}

// refuse drains the body first. Log and Refused may panic, and that must not leave
// the connection waiting for the rest of the body.
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	drain(w, r)
	reason, status := refusal(err)
	v.logger().LogAttrs(r.Context(), slog.LevelWarn, "grantexhook: request rejected",
		slog.Int("status", status), slog.String("reason", reason), slog.Any("error", err), slog.String("remote", r.RemoteAddr), pathOf(r))
	if v.opts.Refused != nil {
		v.opts.Refused(r, reason, err)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Grantex-Signature") // RFC 9110, section 15.5.2: a 401 must name a scheme
	}
	http.Error(w, http.StatusText(status), status)
}

func refusal(err error) (reason string, status int) {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, ErrNoSignature):
		return ReasonNoSignature, http.StatusUnauthorized
	case errors.Is(err, ErrBadSignature):
		return ReasonBadSignature, http.StatusUnauthorized
	case errors.Is(err, ErrStale):
		return ReasonStale, http.StatusUnauthorized
	case tooLarge:
		return ReasonTooLarge, http.StatusRequestEntityTooLarge
	}
	return ReasonUnreadable, http.StatusBadRequest
}

func (v *Verifier) logger() *slog.Logger { return cmp.Or(v.opts.Log, slog.Default()) }

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
// At the end of the body the deadline must be cleared, as in read. HTTP/2 doesn't
// need any of this.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 {
		return
	}
	rc := http.NewResponseController(w)
	err := rc.SetReadDeadline(time.Now().Add(drainTimeout))
	if err == nil && r.Header.Get("Expect") == "" { // reading could ask for a body that hasn't been sent
		if _, err = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxDrain)); err == nil {
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
