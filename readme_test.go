package grantexhook_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExamplesLogAlike checks that examples/chi logs the same as examples/nethttp,
// whose log is tested by running it.
func TestExamplesLogAlike(t *testing.T) {
	logged := func(path string) (lines []string) {
		program, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(program)) {
			if strings.Contains(line, "e.Data.") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	require.Len(t, logged("examples/nethttp/main.go"), 3)
	require.Equal(t, logged("examples/nethttp/main.go"), logged("examples/chi/main.go"))
}

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
