package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo runs the program, and sends it events with the command-line tool. It also
// checks that the README shows what the tool prints today.
func TestDemo(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "grantexhook.exe") // Windows needs the suffix
	text, err := exec.Command("go", "build", "-o", tool, "grantex.dev/grantexhook/cmd/grantexhook").CombinedOutput()
	require.NoError(t, err, string(text))
	l, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	t.Setenv("ADDR", l.Addr().String())
	t.Setenv("GRANTEX_WEBHOOK_SECRET", secret)
	t.Setenv("GRANTEX_WEBHOOK_SECRET_FILE", "")
	go main()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", l.Addr().String())
		return err == nil && conn.Close() == nil
	}, 5*time.Second, 10*time.Millisecond)

	var transcript strings.Builder
	for _, tt := range []struct{ name, env, send, want string }{
		{"granted", "", "grant.created", `200 handled`},
		{"token issued", "", "token.issued", `200 handled`},
		{"delivered twice", "", "-id evt_1 -count 2 grant.revoked", `(?s)200 handled.*200 duplicate`},
		{"signed an hour ago", "", "-at -1h grant.revoked", `401 Unauthorized`},
		{"signed with another secret", "GRANTEX_WEBHOOK_SECRET=another_secret", "grant.created", `401 Unauthorized`},
	} {
		args := "send " + tt.send + " http://" + l.Addr().String() + "/webhooks/grantex"
		command := fmt.Sprintf("# %s\n$ %s\n", tt.name, strings.TrimSpace(tt.env+" grantexhook "+args))
		fmt.Print(command)
		cmd := exec.Command(tool, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), tt.env)
		text, _ := cmd.CombinedOutput() // the exit status is 1 if the event was rejected
		fmt.Println(string(text))
		require.Regexp(t, tt.want, string(text))
		transcript.WriteString(command + string(text) + "\n")
	}

	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	shown := regexp.MustCompile("(?s)```\n(# delivered twice.*?)```").FindSubmatch(readme)
	require.NotNil(t, shown)
	logged := regexp.MustCompile(`(?m)^\d{4}/.*\n`) // by the program
	require.Contains(t, unvaried(transcript.String()), unvaried(logged.ReplaceAllString(string(shown[1]), "")))
}

var varies = regexp.MustCompile(`(?m)\bevt_01\w+|//[^/ ]+|[\d.]+[µm]?s$`) // ids, addresses and durations

// unvaried replaces what differs from run to run.
func unvaried(text string) string {
	return varies.ReplaceAllString(strings.ReplaceAll(text, "\r", ""), "…")
}
