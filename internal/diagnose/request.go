package diagnose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
)

// ErrIncomplete is the error of a saved request that lacks the end of its body.
var ErrIncomplete = errors.New("incomplete")

// ParseRequest parses an HTTP/1.1 request as it was on the wire, or as tools show it:
// with bare line feeds, with the pseudo-headers of HTTP/2, or in the output of curl -v.
func ParseRequest(text []byte) (header http.Header, body []byte, err error) {
	header = http.Header{}
	rest := bytes.TrimLeft(text, "\r\n")
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found && len(line) == 0 {
			return nil, nil, errors.New("there is no empty line after the headers")
		}
		rest = after
		head := strings.TrimSuffix(string(line), "\r")
		head = strings.TrimPrefix(strings.TrimPrefix(head, ">"), " ")
		if head == "" {
			break
		}
		name, value, ok := strings.Cut(head, ":")
		switch {
		case len(header) == 0 && isRequestLine(head), curlNote.MatchString(head), pseudoHeader.MatchString(head):
		case !ok || name == "" || strings.ContainsAny(name, " \t{\""):
			return nil, nil, errors.New("a line before the empty line is not a header")
		default:
			header.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
		}
	}
	if rest, err = skipNotes(rest); err != nil {
		return nil, nil, err
	}
	body, err = savedBody(header, rest)
	return header, body, err
}

func isRequestLine(line string) bool {
	return strings.HasPrefix(line[strings.LastIndex(line, " ")+1:], "HTTP/")
}

var (
	// curlNote is a line in which curl -v writes about the connection, or counts
	// bytes that it doesn't show.
	curlNote = regexp.MustCompile(`^(?:\*.*|[{}] \[\d+ bytes data\])$`)

	pseudoHeader = regexp.MustCompile(`^:[a-z]+:`) // RFC 9113, section 8.3
)

// skipNotes returns what follows the notes of curl after a head. If that is a
// response, the body of the request was never shown.
func skipNotes(rest []byte) ([]byte, error) {
	for {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		switch {
		case bytes.HasPrefix(line, []byte("< HTTP/")):
			return nil, errors.New("a response follows the headers; curl -v doesn't show the body that was sent")
		case !curlNote.Match(line):
			return rest, nil
		}
		rest = after
	}
}

// savedBody returns the body that follows the head. Most tools show it without its
// chunked encoding.
func savedBody(h http.Header, rest []byte) ([]byte, error) {
	if strings.Contains(strings.ToLower(h.Get("Transfer-Encoding")), "chunked") && !bytes.HasPrefix(rest, []byte("{")) {
		body, err := dechunk(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: the chunks of the body are broken after %d bytes: %v", ErrIncomplete, len(body), err)
		}
		return body, nil
	}
	if h.Get("Content-Length") == "" {
		return rest, nil
	}
	n, err := strconv.Atoi(h.Get("Content-Length"))
	switch {
	case err != nil || n < 0:
		return nil, errors.New("its Content-Length is not a number")
	case n > len(rest):
		return nil, fmt.Errorf("%w: the body has %d bytes, but its Content-Length is %d", ErrIncomplete, len(rest), n)
	}
	return rest[:n], nil
}

// dechunk also decodes chunks whose line endings have lost their carriage returns.
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
