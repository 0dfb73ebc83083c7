package grantexhook_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme holds that the program in the README is the one that compiles, and
// that a reader meets it at once.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	program, err := os.ReadFile("examples/nethttp/main.go")
	require.NoError(t, err)

	before, after, found := bytes.Cut(readme, []byte("```go\n"))
	require.True(t, found)
	shown, _, found := bytes.Cut(after, []byte("```\n"))
	require.True(t, found)
	require.Equal(t, string(program), string(shown))
	require.LessOrEqual(t, bytes.Count(before, []byte("\n"))+1, 15, "line of the program")
}
