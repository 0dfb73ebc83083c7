package hooktest

import (
	"bytes"
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

// NewRequest returns the request with which Grantex would deliver p now, signed
// with secret. Its path is "/"; that of a [Sender] can have another, and can be
// wrong in several ways.
//
// It can be given to a handler, with a [net/http/httptest.ResponseRecorder], as
// well as to an [http.Client]: the body is chunked, of a length that is not
// announced, and is not sent again to where an answer redirects. As a client
// requires, RequestURI is empty and URL absolute; a server would see only path
// and query in both. It fails the test if secret is one that
// [grantexhook.NewVerifier] refuses, or for the reasons of [Body].
func NewRequest(t testing.TB, secret string, p grantexhook.Payload) *http.Request {
	t.Helper()
	return Sender{Secret: secret}.NewRequest(t, p)
}

// NewRequest returns the request of the first attempt at delivering p. If the
// Sender has no URL, it goes to Path. A Sender with Cut makes a request whose
// body breaks off with [io.ErrUnexpectedEOF]. Attempts, Soonest, Timeout and
// Handler are ignored. NewRequest still fails the test if the Sender couldn't
// deliver, except that a target may be missing.
func (s Sender) NewRequest(t testing.TB, p grantexhook.Payload) *http.Request {
	t.Helper()
	s.check(t)
	d := sender.Parcel{URL: s.url(t), Secret: s.Secret, Body: Body(t, p), Legacy: s.Legacy}
	var body io.Reader = bytes.NewReader(d.Body)
	if s.Cut > 0 {
		body = io.MultiReader(bytes.NewReader(d.Body[:len(d.Body)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	return &http.Request{
		Method:           http.MethodPost,
		URL:              d.URL,
		Proto:            "HTTP/1.1",
		ProtoMajor:       1,
		ProtoMinor:       1,
		Header:           d.Header(time.Now().Add(s.Skew)),
		Body:             io.NopCloser(body),
		ContentLength:    -1,
		TransferEncoding: []string{"chunked"},
		Host:             d.URL.Host,
		RemoteAddr:       clientAddr.String(),
	}
}

// url returns where to deliver: for a Handler it is a host that is nowhere.
func (s Sender) url(t testing.TB) *url.URL {
	t.Helper()
	target := s.URL
	if target == "" {
		target = "http://example.com/" + strings.TrimPrefix(s.Path, "/")
	}
	u, err := sender.ParseURL(target)
	if err != nil {
		t.Fatalf("hooktest: the target of the Sender: %v", err)
	}
	return u
}
