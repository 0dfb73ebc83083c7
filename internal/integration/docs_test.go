package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests in this file are in this module because only a checkout has every file that
// the pages name.

// TestLogLinesInDocs checks that the code has the log lines that docs/deploy.md names.
// An alert on a line that has changed never fires.
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

// TestLinksInDocs checks that the files that Markdown pages link to exist.
func TestLinksInDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)(#[^)]*)?\)`)
	checked := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		page, err := os.ReadFile(path)
		for _, l := range link.FindAllStringSubmatch(string(page), -1) {
			checked++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), l[1])); err != nil {
				t.Errorf("%s links to %s, which doesn't exist", path, l[1])
			}
		}
		return err
	}))
	require.NotZero(t, checked)
}
