package grantexhook_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// A capture is a delivery of the real service, as it was recorded on the wire.
type capture struct {
	Name       string      `json:"name"`
	Path       string      `json:"path"`
	ReceivedAt time.Time   `json:"receivedAt"`
	Secret     string      `json:"secret"`
	Headers    [][2]string `json:"headers"`
	EventID    string      `json:"eventId"`
	EventType  string      `json:"eventType"`
	Body       []byte      `json:"bodyBase64"`
}

func captures(t testing.TB) []capture {
	t.Helper()
	f, err := os.Open("testdata/deliveries.jsonl")
	require.NoError(t, err)
	defer f.Close()
	var all []capture
	for dec := json.NewDecoder(f); dec.More(); {
		var c capture
		require.NoError(t, dec.Decode(&c))
		all = append(all, c)
	}
	require.Len(t, all, 24)
	return all
}

func captureNamed(t testing.TB, name string) capture {
	t.Helper()
	all := captures(t)
	i := slices.IndexFunc(all, func(c capture) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

func (c capture) header() http.Header {
	h := http.Header{}
	for _, kv := range c.Headers {
		h.Add(kv[0], kv[1])
	}
	return h
}

// wire is the request as it was sent, header by header and in one chunk.
func (c capture) wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", c.Path)
	for _, kv := range c.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", kv[0], kv[1])
	}
	fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n\r\n", len(c.Body), c.Body)
	return b.Bytes()
}

// send writes a request to a server and returns the status of the answer.
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

// anyAge makes a recording acceptable whenever the tests run.
const anyAge = 200 * 365 * 24 * time.Hour

func newVerifier(t testing.TB, secret string, opts *grantexhook.Options) *grantexhook.Verifier {
	t.Helper()
	v, err := grantexhook.NewVerifier(secret, opts)
	require.NoError(t, err)
	return v
}
