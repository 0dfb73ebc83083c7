package hooktest_test

import (
	"bytes"
	"io"
	"log/slog"
)

var silent = slog.New(slog.DiscardHandler)

// newBody returns a body of unknown length.
func newBody(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) }
