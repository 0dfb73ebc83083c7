package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWriteJSON checks that JSON has nothing a terminal would act on, and stays the
// same value.
func TestWriteJSON(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"plain", "a<é> 😀", `"a<é> 😀"`},
		{"control characters", "\x1b\x7f\n\u0000", `"\u001b\u007f\n\u0000"`},
		{"C1", "a\u009b31m", `"a\u009b31m"`},
		{"right to left", "\u202eabc\u2066", `"\u202eabc\u2066"`},
		{"line separators", "\u2028\u2029\u0085", `"\u2028\u2029\u0085"`},
		{"invisible", "\u200b\u00a0\ufeff", `"\u200b\u00a0\ufeff"`},
		{"tags beyond the first plane", "\U000E0041", `"\udb40\udc41"`},
		{"backslash before it", "\\\u009b", `"\\\u009b"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			writeJSON(&b, tt.value)
			require.Equal(t, tt.want+"\n", b.String())
			var back string
			require.NoError(t, json.Unmarshal(b.Bytes(), &back))
			require.Equal(t, tt.value, back)
		})
	}
}

// TestNotUTF8 checks that a terminal gets no byte which it may take for a control
// character of Latin-1.
func TestNotUTF8(t *testing.T) {
	require.Equal(t, `"a\x9b31m"`, printable("a\x9b31m"))
	require.Equal(t, "\"a\ufffd31m\"", string(escaped([]byte("\"a\x9b31m\""))))
}

func TestOneLine(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"the library's terms", "grantexapi: Client.APIKey is empty", "GRANTEX_API_KEY is empty"},
		{"lines", "\na\nb\n", "a; b"},
		{"escapes", "a\x1b[2Jb\u009bc\u202ed", "a [2Jb c d"},
		{"not UTF-8", "a\x9b31mb", "a\ufffd31mb"},
		{"just short enough", strings.Repeat("a", 1000), strings.Repeat("a", 1000)},
		{"too long", strings.Repeat("a", 999) + "é", strings.Repeat("a", 999) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, oneLine(tt.text)) })
	}
}

func TestReport(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"done", nil, exitDone, ""},
		{"verdict", errVerdict, exitFailed, ""},
		{"error", errors.New("grantexhook: no"), exitFailed, "grantexhook: no\n"},
		{"failure", failed(errors.New("no"), "yes"), exitFailed, "grantexhook: no\nhint: yes\n"},
		{"usage", usageError("no", "help"), exitUsage, "grantexhook: no\nhint: help\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			a := &app{stderr: &output{w: &b}}
			require.Equal(t, tt.status, a.report(tt.err))
			require.Equal(t, tt.want, b.String())
		})
	}
}

func TestIsTerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	defer file.Close()
	require.False(t, isTerminal(file))
	require.False(t, isTerminal(&bytes.Buffer{}))
	if runtime.GOOS == "windows" {
		return
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	require.True(t, isTerminal(null), "it's a character device too")
}
