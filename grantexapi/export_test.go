package grantexapi

import (
	"net/http"
	"testing"
)

// SetTransport replaces the Transport of a nil HTTPClient during a test.
func SetTransport(t testing.TB, rt http.RoundTripper) {
	before := transport
	transport = func() http.RoundTripper { return rt }
	t.Cleanup(func() { transport = before })
}

const MaxEvent = maxEvent
