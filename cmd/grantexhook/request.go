package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
)

// A saved delivery is one that is looked at afterwards.
type saved struct {
	headers http.Header
	body    []byte
}

// parseRequest reads a request in HTTP/1.1 as it was on the wire, or as tools
// show it: with bare line feeds, and with "> " before the lines of the head.
func parseRequest(text []byte) (saved, error) {
	d := saved{headers: http.Header{}}
	rest := bytes.TrimLeft(text, "\r\n")
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found && len(line) == 0 {
			return saved{}, noRequest("there is no empty line after the headers")
		}
		rest = after
		head := strings.TrimSuffix(string(line), "\r")
		head = strings.TrimPrefix(strings.TrimPrefix(head, ">"), " ")
		if head == "" {
			break
		}
		name, value, ok := strings.Cut(head, ":")
		switch {
		case len(d.headers) == 0 && isRequestLine(head) || strings.HasPrefix(head, "*"):
		case !ok || name == "" || strings.ContainsAny(name, " \t{\""):
			return saved{}, noRequest("a line of its head is no header")
		default:
			d.headers.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
		}
	}
	var err error
	d.body, err = savedBody(d.headers, rest)
	return d, err
}

func isRequestLine(line string) bool {
	return strings.HasPrefix(line[strings.LastIndex(line, " ")+1:], "HTTP/")
}

func noRequest(why string) error {
	return usageError("the request is not as HTTP/1.1 sends it: "+why, "a file with the body alone goes to standard input, the headers to -signature-v2 and -timestamp")
}

// savedBody returns the body in what follows the head. Most tools show it
// without the chunks in which it came.
func savedBody(h http.Header, rest []byte) ([]byte, error) {
	if strings.Contains(strings.ToLower(h.Get("Transfer-Encoding")), "chunked") && !bytes.HasPrefix(rest, []byte("{")) {
		body, err := dechunk(rest)
		if err != nil {
			return nil, failed(fmt.Errorf("the chunks of the body are broken after %d bytes: %w", len(body), err), "was the whole request saved?")
		}
		return body, nil
	}
	if h.Get("Content-Length") == "" {
		return rest, nil
	}
	n, err := strconv.Atoi(h.Get("Content-Length"))
	switch {
	case err != nil || n < 0:
		return nil, noRequest("its Content-Length is no number")
	case n > len(rest):
		return nil, failed(fmt.Errorf("the body has %d bytes, and its Content-Length says %d", len(rest), n), "was the whole request saved?")
	}
	return rest[:n], nil
}

// dechunk also reads chunks whose line ends have lost their carriage returns.
func dechunk(text []byte) ([]byte, error) {
	body, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(text)))
	if err == nil {
		return body, nil
	}
	if bytes.Contains(text, []byte("\r\n")) {
		return body, err
	}
	return dechunkLF(text)
}

func dechunkLF(text []byte) (body []byte, err error) {
	for {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		n, err := strconv.ParseUint(string(line), 16, 31)
		switch {
		case err != nil:
			return body, errors.New("the length of a chunk is missing")
		case n == 0:
			return body, nil
		case len(rest) <= int(n) || rest[n] != '\n':
			return body, io.ErrUnexpectedEOF
		}
		body, text = append(body, rest[:n]...), rest[n+1:]
	}
}
