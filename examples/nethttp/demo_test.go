package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo runs the program, and sends it events with the command-line tool.
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

	for _, tt := range []struct{ name, env, send, want string }{
		{"granted", "", "grant.created", `200 handled`},
		{"token issued", "", "token.issued", `200 handled`},
		{"delivered twice", "", "-id evt_1 -count 2 grant.revoked", `(?s)200 handled.*200 duplicate`},
		{"signed an hour ago", "", "-at -1h grant.revoked", `401 Unauthorized`},
		{"signed with another secret", "GRANTEX_WEBHOOK_SECRET=another_secret", "grant.created", `401 Unauthorized`},
	} {
		args := "send " + tt.send + " http://" + l.Addr().String() + "/webhooks/grantex"
		fmt.Printf("# %s\n$ %s\n", tt.name, strings.TrimSpace(tt.env+" grantexhook "+args))
		cmd := exec.Command(tool, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), tt.env)
		text, _ := cmd.CombinedOutput() // the exit status is 1 if the event was rejected
		fmt.Println(string(text))
		require.Regexp(t, tt.want, string(text))
	}
}
