package sender_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// A capture is a delivery of the real service, as it was recorded on the wire.
type capture struct {
	Name    string      `json:"name"`
	Path    string      `json:"path"`
	Secret  string      `json:"secret"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"bodyBase64"`
}

func captures(t *testing.T) []capture {
	t.Helper()
	f, err := os.Open("../../testdata/deliveries.jsonl")
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

// wire is the request as it was sent. The recordings do not tell the chunks;
// what was sent them in one.
func (c capture) wire() string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", c.Path)
	for _, kv := range c.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", kv[0], kv[1])
	}
	fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n\r\n", len(c.Body), c.Body)
	return b.String()
}

func (c capture) header(t *testing.T, name string) string {
	t.Helper()
	for _, kv := range c.Headers {
		if kv[0] == name {
			return kv[1]
		}
	}
	t.Fatalf("no header %s", name)
	return ""
}

func (c capture) sentAt(t *testing.T) time.Time {
	t.Helper()
	seconds, err := strconv.ParseInt(c.header(t, "x-grantex-timestamp"), 10, 64)
	require.NoError(t, err)
	return time.Unix(seconds, 0)
}

func (c capture) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse("http://" + c.header(t, "Host") + c.Path)
	require.NoError(t, err)
	return u
}

// event decodes the body as far as the root package can.
func (c capture) event(t *testing.T) grantexhook.Event[any] {
	t.Helper()
	var raw grantexhook.RawEvent
	require.NoError(t, json.Unmarshal(c.Body, &raw))
	e := grantexhook.Event[any]{ID: raw.ID, Type: raw.Type, CreatedAt: raw.CreatedAt}
	switch raw.Type {
	case grantexhook.TypeGrantCreated:
		e.Data = decode[grantexhook.GrantCreated](t, raw.Data)
	case grantexhook.TypeGrantRevoked:
		e.Data = decode[grantexhook.GrantRevoked](t, raw.Data)
	case grantexhook.TypeTokenIssued:
		e.Data = decode[grantexhook.TokenIssued](t, raw.Data)
	}
	return e
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&v))
	return v
}
