package capture_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/capture"
)

func TestWireIsARequest(t *testing.T) {
	all := capture.All()
	require.Len(t, all, 24)
	for _, d := range all {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(d.Wire())))
		require.NoError(t, err, d.Name)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err, d.Name)
		require.Equal(t, d.Body, body)
		require.Equal(t, []string{"chunked"}, r.TransferEncoding)
		require.Contains(t, string(body), d.EventID)
		require.WithinDuration(t, d.ReceivedAt, d.SentAt(), 2e9)
	}
	require.Panics(t, func() { capture.Named("none") })
}
