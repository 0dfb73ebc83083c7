package redisstore_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the README shows is what the manual shows, and compiles up to the
// Dispatcher, which another module has.
func TestReadme(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		return strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	_, rest, _ := strings.Cut(read("README.md"), "```go\n")
	program, _, ok := strings.Cut(rest, "d := grantexhook.Dispatcher{Store: store}\n```")
	require.True(t, ok)
	indent := func(by string) string {
		return by + strings.ReplaceAll(strings.TrimSuffix(program, "\n"), "\n", "\n"+by) + "\n"
	}
	require.Contains(t, read("store.go"), indent("//\t"))
	require.Contains(t, read("example_test.go"), indent("\t"))
}
