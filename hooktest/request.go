package hooktest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// NewRequest returns the request with which Grantex would deliver p now, signed with
// secret. Its path is "/". For another path or a request that is wrong in some way, use
// the method of a [Sender].
//
// You can pass the request to a handler with a [net/http/httptest.ResponseRecorder], or
// to an [http.Client]. Its body is chunked and has no Content-Length. A client
// won't send it again after a redirect. As a client requires, RequestURI is empty and
// URL is absolute, unlike in a request from a server.
//
// It fails the test if [grantexhook.NewVerifier] would reject secret, or if [Body]
// would fail the test.
func NewRequest(t testing.TB, secret string, p grantexhook.Payload) *http.Request {
	t.Helper()
	return Sender{Secret: secret}.NewRequest(t, p)
}

// NewRequest returns the request of the first attempt at delivering p. It goes to URL,
// or without one to Path. If Cut is set, its body breaks off in the middle with
// [io.ErrUnexpectedEOF]. Attempts, Soonest, Timeout and Handler are ignored.
//
// It fails the test if a field of the Sender is out of range, or if [Body] would fail
// the test.
func (s Sender) NewRequest(t testing.TB, p grantexhook.Payload) *http.Request {
	t.Helper()
	s.check(t)
	parcel := s.parcel(t, p)
	var body io.Reader = bytes.NewReader(parcel.Body)
	if s.Cut > 0 {
		body = io.MultiReader(bytes.NewReader(parcel.Body[:len(parcel.Body)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	return &http.Request{
		Method:           http.MethodPost,
		URL:              parcel.URL,
		Proto:            "HTTP/1.1",
		ProtoMajor:       1,
		ProtoMinor:       1,
		Header:           parcel.Header(time.Now().Add(s.Skew)),
		Body:             io.NopCloser(body),
		ContentLength:    -1,
		TransferEncoding: []string{"chunked"},
		Host:             parcel.URL.Host,
		RemoteAddr:       clientAddr.String(),
	}
}

func (s Sender) url(t testing.TB) *url.URL {
	t.Helper()
	u, err := s.target()
	if err != nil {
		t.Fatalf("hooktest: %v", err)
	}
	return u
}

// target returns where to deliver. A Handler gets a host that is never looked up.
func (s Sender) target() (*url.URL, error) {
	target := s.URL
	if target == "" {
		target = "http://example.com/" + strings.TrimPrefix(s.Path, "/")
	}
	u, err := sender.ParseURL(target)
	if err != nil {
		return nil, fmt.Errorf("the Sender's target: %w", err)
	}
	return u, nil
}
