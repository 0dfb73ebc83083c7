package hooktest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var silent = slog.New(slog.DiscardHandler)

// A capture is a delivery of the real service, as it was recorded on the wire.
type capture struct {
	Name    string      `json:"name"`
	Secret  string      `json:"secret"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"bodyBase64"`
}

func captures(t *testing.T) []capture {
	t.Helper()
	f, err := os.Open("../testdata/deliveries.jsonl")
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

func captureNamed(t *testing.T, name string) capture {
	t.Helper()
	all := captures(t)
	i := slices.IndexFunc(all, func(c capture) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

// newBody returns a body whose length a server would not know.
func newBody(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) }
