package redisstore_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme checks that the README and the package documentation make a Store as the
// example does, which compiles. The README's Dispatcher is in another module.
func TestReadme(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		return strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	_, rest, _ := strings.Cut(read("example_test.go"), "func Example() {\n")
	example, _, ok := strings.Cut(rest, "\t_ = store")
	require.True(t, ok)
	require.Contains(t, read("README.md"), example)
	require.Contains(t, read("store.go"), "//"+strings.ReplaceAll(strings.TrimSuffix(example, "\n"), "\n", "\n//")+"\n")
}
