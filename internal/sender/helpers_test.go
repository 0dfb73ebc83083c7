package sender_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

func urlOf(t *testing.T, c capture.Recording) *url.URL {
	t.Helper()
	u, err := url.Parse("http://" + c.Header().Get("Host") + c.Path)
	require.NoError(t, err)
	return u
}

// eventOf decodes the body as far as the root package can.
func eventOf(t *testing.T, c capture.Recording) grantexhook.Event[any] {
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
