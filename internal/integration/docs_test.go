package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLogLinesInDocs checks that the code has the log lines that docs/deploy.md names.
// An alert on a line that has changed never fires. The test is here because only a
// checkout has all modules.
func TestLogLinesInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/deploy.md")
	require.NoError(t, err)
	lines := regexp.MustCompile("`((grantexhook|riverinbox): [^`…]+)").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, lines)
	dirs := map[string]string{"grantexhook": "../..", "riverinbox": "../../riverinbox"}
	for _, line := range lines {
		require.True(t, inCode(t, dirs[line[2]], `"`+line[1]), "not in the code: %s", line[1])
	}
}

func inCode(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	require.NoError(t, err)
	for _, name := range files {
		code, err := os.ReadFile(name)
		require.NoError(t, err)
		if !strings.HasSuffix(name, "_test.go") && strings.Contains(string(code), text) {
			return true
		}
	}
	return false
}
