package grantexhook_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme checks that the README's program and test are those that compile, and
// that the README stays short.
func TestReadme(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	readme := read("README.md")
	before, _, found := strings.Cut(readme, "```go\n"+read("examples/nethttp/main.go")+"```\n")
	require.True(t, found, "the README must show examples/nethttp/main.go, byte for byte")
	require.Contains(t, readme, "```go\n"+read("examples/nethttp/handler_test.go")+"```\n")

	require.LessOrEqual(t, strings.Count(before, "\n"), 29, "lines before the program")
	require.LessOrEqual(t, len(strings.Fields(readme)), 1300, "words")
	for line := range strings.Lines(readme) {
		if strings.HasPrefix(line, "|") {
			require.LessOrEqual(t, len(line), 121, line)
		}
	}
}
