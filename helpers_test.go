package grantexhook_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// send writes a request to a server and returns the status of the response.
func send(t testing.TB, addr string, wire []byte) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Write(wire)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// within returns what it receives from c, and fails the test after ten seconds
// without waiting for the deadline of go test.
func within[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("no value was sent within ten seconds")
	}
	return v
}

// anyAge makes a recording acceptable whenever the tests run.
const anyAge = 200 * 365 * 24 * time.Hour

func newVerifier(t testing.TB, secret string, opts *grantexhook.Options) *grantexhook.Verifier {
	t.Helper()
	v, err := grantexhook.NewVerifier(secret, opts)
	require.NoError(t, err)
	return v
}
