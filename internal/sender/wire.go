package sender

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// exchange sends the request and returns the status of the answer. The
// connection ends with it, and with ctx.
//
// The request is written by hand because the Transport of net/http has an order
// and a case of its own for the headers.
func (d *Delivery) exchange(ctx context.Context, at time.Time, cut bool) (int, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	// The answer may come before the body is written: a refusal does.
	written := make(chan error, 1)
	go func() { written <- d.write(conn, at, cut) }()
	status, err := readStatus(conn)
	conn.Close()
	if <-written == ErrCut {
		return 0, ErrCut
	}
	return status, err
}

func (d *Delivery) connect(ctx context.Context) (net.Conn, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	port := d.URL.Port()
	if port == "" {
		port = d.URL.Scheme // "http" and "https" are names of ports as well
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(d.URL.Hostname(), port))
	if err != nil || d.URL.Scheme != "https" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: d.URL.Hostname()})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// write sends the request as Grantex does, the body in one chunk. An empty body
// has none: a chunk without bytes is the one that ends a body.
func (d *Delivery) write(conn net.Conn, at time.Time, cut bool) error {
	head := d.head(at)
	if cut {
		_, err := conn.Write(append(head, d.Body[:len(d.Body)/2]...))
		conn.Close()
		if err != nil {
			return err
		}
		return ErrCut
	}
	if len(d.Body) > 0 {
		head = append(append(head, d.Body...), "\r\n"...)
	}
	_, err := conn.Write(append(head, "0\r\n\r\n"...))
	return err
}

// head returns all that comes before the body, the size of its chunk included.
func (d *Delivery) head(at time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", d.URL.RequestURI())
	h := d.Header(at)
	for _, name := range [...]string{"content-type", "user-agent", "x-grantex-signature", "x-grantex-signature-v2", "x-grantex-timestamp"} {
		if value := h.Get(name); value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	fmt.Fprintf(&b, "Host: %s\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", d.URL.Host)
	if len(d.Body) > 0 {
		fmt.Fprintf(&b, "%x\r\n", len(d.Body))
	}
	return b.Bytes()
}

// readStatus reads a whole answer and returns its status.
func readStatus(conn net.Conn) (int, error) {
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
		if err != nil {
			return 0, err
		}
		if resp.StatusCode < 200 {
			continue // RFC 9110, section 15.2: any number of these may come first
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return 0, err
		}
		return resp.StatusCode, nil
	}
}
