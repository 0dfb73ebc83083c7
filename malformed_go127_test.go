//go:build go1.27

package grantexhook_test

import (
	"encoding/json/jsontext"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// streamed decodes itself from any value, with the method that Go 1.27 added.
type streamed struct{ JSON string }

func (streamed) EventType() string { return "streamed" }

func (s *streamed) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v, err := dec.ReadValue()
	s.JSON = string(v)
	return err
}

// TestPayloadFromAStream checks that data reaches a handler only if it's an object,
// whichever method the payload decodes itself with.
func TestPayloadFromAStream(t *testing.T) {
	for _, data := range []string{`null`, `[]`, `[{}]`, `"text"`, `1`, `true`} {
		var got any
		var d grantexhook.Dispatcher
		onData[streamed](&d, &got)
		require.ErrorIs(t, d.Dispatch(t.Context(), newEvent("streamed", data)), grantexhook.ErrMalformed, data)
		require.Nil(t, got)
	}
	var got any
	var d grantexhook.Dispatcher
	onData[streamed](&d, &got)
	require.NoError(t, d.Dispatch(t.Context(), newEvent("streamed", `{"a":1}`)))
	require.Equal(t, streamed{`{"a":1}`}, got)
}
