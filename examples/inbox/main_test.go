package main

import (
	"bytes"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

const secret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"

// TestKilled kills the program while it handles an event that it has acknowledged, and
// checks that the event is handled after the next start.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "inbox.exe") // Windows needs the suffix
	text, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(text))
	first := start(t, path)

	resp, err := http.DefaultClient.Do(hooktest.Sender{Secret: secret, URL: first.url}.NewRequest(t, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	first.waitFor(t, `grant "grnt_1": begins`)
	requirePrivate(t, filepath.Join(dir, "inbox.db"), filepath.Join(dir, "inbox.db-wal"), filepath.Join(dir, "inbox.db-shm"))
	require.NoError(t, first.Process.Kill())
	first.Wait()
	require.NotContains(t, first.logged(t), "revoked")

	second := start(t, path)
	second.waitFor(t, `grant "grnt_1": revoked`)
	if runtime.GOOS == "windows" { // has no such signal
		return
	}
	require.NoError(t, second.Process.Signal(os.Interrupt))
	require.NoError(t, second.Wait())
	require.Equal(t, 1, strings.Count(second.logged(t), `grant "grnt_1": revoked`))
}

// requirePrivate checks that only the owner can read the files.
func requirePrivate(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		info, err := os.Stat(path)
		require.NoError(t, err)
		if runtime.GOOS != "windows" { // where the mode doesn't show who can read a file
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
		}
	}
}

func TestCreatePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	require.NoError(t, createPrivate(path))
	requirePrivate(t, path)
	require.Error(t, createPrivate(filepath.Join(path, "in a file")))
}

// TestCreatePrivateAgain checks that files from an earlier run become private and
// keep their content.
func TestCreatePrivateAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	all := []string{path, path + "-wal", path + "-shm"}
	for _, name := range all {
		require.NoError(t, os.WriteFile(name, []byte("events"), 0o644))
	}
	require.NoError(t, createPrivate(path))
	requirePrivate(t, all...)
	for _, name := range all {
		kept, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "events", string(kept))
	}
}

// TestRevokeQuotes checks that an id from the sender can't start a log line.
func TestRevokeQuotes(t *testing.T) {
	var b bytes.Buffer
	log.SetOutput(&b)
	defer log.SetOutput(os.Stderr)
	synctest.Test(t, func(t *testing.T) {
		e := grantexhook.Event[grantexhook.GrantRevoked]{Data: grantexhook.GrantRevoked{GrantID: "grnt_1\n2026/11/26 12:00:00 forged\r\x1b[2J"}}
		require.NoError(t, revoke(t.Context(), e))
	})
	require.Equal(t, 2, strings.Count(b.String(), "\n"), b.String())
	require.Equal(t, 2, strings.Count(b.String(), `"grnt_1\n2026/11/26 12:00:00 forged\r\x1b[2J"`), b.String())
}

// A program is a running example.
type program struct {
	*exec.Cmd
	url, log string
}

func start(t *testing.T, path string) *program {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { // the loopback interface may have only IPv6
		l, err = net.Listen("tcp", "[::1]:0")
	}
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	log, err := os.CreateTemp(filepath.Dir(path), "log")
	require.NoError(t, err)
	defer log.Close()

	p := &program{exec.CommandContext(t.Context(), path), "http://" + addr + "/webhooks/grantex", log.Name()}
	p.Env = append(os.Environ(), "GRANTEX_WEBHOOK_SECRET="+secret, "ADDR="+addr, "INBOX="+filepath.ToSlash(filepath.Join(filepath.Dir(path), "inbox.db")))
	p.Stdout, p.Stderr = log, log
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	p.waitFor(t, "listening on")
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return p
}

func (p *program) logged(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return string(log)
}

// waitFor waits long enough for an event that was interrupted.
func (p *program) waitFor(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.logged(t), text) }, 90*time.Second, 20*time.Millisecond, text)
}
