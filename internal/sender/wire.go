package sender

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

const (
	// maxHead bounds all headers of a response, which are kept in memory.
	maxHead = 64 << 10

	maxExcerpt = 512
)

// ErrNotHTTP is the error of an attempt over http at a server that speaks TLS.
var ErrNotHTTP = errors.New("grantexhook: the response is TLS, not HTTP")

// A HandshakeError is the error of an attempt over https whose TLS handshake failed.
// For example, the certificate isn't trusted or the server doesn't speak TLS.
type HandshakeError struct{ Err error }

// Error implements error.
func (e *HandshakeError) Error() string {
	return "grantexhook: the TLS handshake failed: " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *HandshakeError) Unwrap() error { return e.Err }

// exchange sends the request and returns the status of the response and the
// beginning of its body. The connection ends with it, and with ctx.
//
// The request is written by hand because the Transport of net/http has its own
// order and case for the headers.
func (p *Parcel) exchange(ctx context.Context, at time.Time, cut bool) (status int, excerpt string, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	// The response may come before the body is written, for example a rejection.
	written := make(chan error, 1)
	go func() { written <- p.write(conn, at, cut) }()
	status, excerpt, err = readResponse(conn)
	conn.Close()
	if <-written == ErrCut {
		return 0, "", ErrCut
	}
	return status, excerpt, err
}

func (p *Parcel) connect(ctx context.Context) (net.Conn, error) {
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	port := p.URL.Port()
	if port == "" {
		port = p.URL.Scheme // "http" and "https" are also names of ports
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(p.URL.Hostname(), port))
	if err != nil || p.URL.Scheme != "https" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: p.URL.Hostname()})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &HandshakeError{err}
	}
	return secure, nil
}

// write sends the request as Grantex does, with the body in one chunk. An empty body
// has no chunk, since a chunk without bytes ends the body.
func (p *Parcel) write(conn net.Conn, at time.Time, cut bool) error {
	head := p.head(at)
	if cut {
		_, err := conn.Write(append(head, p.Body[:len(p.Body)/2]...))
		conn.Close()
		if err != nil {
			return err
		}
		return ErrCut
	}
	if len(p.Body) > 0 {
		head = append(append(head, p.Body...), "\r\n"...)
	}
	_, err := conn.Write(append(head, "0\r\n\r\n"...))
	return err
}

// head returns all that comes before the body, including the size of its chunk.
func (p *Parcel) head(at time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", p.URL.RequestURI())
	h := p.Header(at)
	for _, name := range [...]string{"content-type", "user-agent", "x-grantex-signature", "x-grantex-signature-v2", "x-grantex-timestamp"} {
		if value := h.Get(name); value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	fmt.Fprintf(&b, "Host: %s\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", p.URL.Host)
	if len(p.Body) > 0 {
		fmt.Fprintf(&b, "%x\r\n", len(p.Body))
	}
	return b.Bytes()
}

// readResponse reads a whole response and returns its status and the beginning of
// its body.
func readResponse(conn net.Conn) (status int, excerpt string, err error) {
	head := &io.LimitedReader{R: conn, N: maxHead}
	r := bufio.NewReader(head)
	if first, _ := r.Peek(2); len(first) == 2 && first[0] == 0x15 && first[1] == 0x03 { // an alert: RFC 8446, section 5.1
		return 0, "", ErrNotHTTP
	}
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
		switch {
		case err != nil && head.N <= 0:
			return 0, "", fmt.Errorf("grantexhook: the headers of the response are larger than %d bytes", maxHead)
		case err != nil:
			return 0, "", err
		case resp.StatusCode < 200:
			continue // RFC 9110, section 15.2: any number of these may come first
		}
		head.N = math.MaxInt64
		defer resp.Body.Close()
		start, err := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt))
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil {
			return 0, "", err
		}
		return resp.StatusCode, string(start), nil
	}
}
