package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// build returns the path of the program.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grantexhook.exe") // Windows needs the suffix
	text, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(text))
	return path
}

// start returns the program with these arguments and this environment.
func start(path, stdin string, env []string, args ...string) (cmd *exec.Cmd, stdout, stderr *screen) {
	cmd = exec.Command(path, args...)
	stdout, stderr = &screen{}, &screen{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), stdout, stderr
	cmd.Env = env
	for _, name := range []string{"SYSTEMROOT", "TMP", "TEMP"} { // Windows has no sockets without
		if value := os.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd, stdout, stderr
}

// TestProgram runs the program itself, like a shell.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	path := build(t)
	secret := []string{"GRANTEX_WEBHOOK_SECRET=" + testSecret}
	exec := func(status int, stdin string, args ...string) (string, string) {
		t.Helper()
		cmd, stdout, stderr := start(path, stdin, secret, args...)
		err := cmd.Run()
		if status != exitDone {
			require.Error(t, err)
		}
		require.Equal(t, status, cmd.ProcessState.ExitCode(), "%v: %s%s", args, stdout, stderr)
		return stdout.String(), stderr.String()
	}
	out, _ := exec(exitDone, "", "help")
	require.Contains(t, out, "usage: grantexhook COMMAND")
	_, errs := exec(exitUsage, "", "snd")
	require.Equal(t, "grantexhook: unknown command \"snd\"\nhint: grantexhook help lists the commands\n", errs)
	out, _ = exec(exitDone, testBody, "verify", "-signature", sign(testSecret, testBody))
	require.Contains(t, out, "right")
	out, errs = exec(exitFailed, testBody+"\n", "verify", "-signature", sign(testSecret, testBody))
	require.Contains(t, out, "wrong: the body has a newline at its end")
	require.Empty(t, errs)

	cmd, stdout, stderr := start(path, "", secret, "listen", "-addr", "127.0.0.1:0")
	require.NoError(t, cmd.Start())
	defer cmd.Process.Kill()
	url := stderr.find(t, `listening on (\S+)\n`)
	exec(exitDone, `{"grantId":"grnt_1"}`, "send", "-data", "-", "-id", "evt_1", "grant.revoked", url)
	exec(exitFailed, "", "send", "-at", "-10m", "grant.revoked", url)
	require.Contains(t, stdout.String(), "grant.revoked  evt_1")
	if runtime.GOOS == "windows" {
		return // which has no way to interrupt one process
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
}

// TestProgramDoesNotLinkTesting checks that the program imports nothing but the
// standard library and this module, without package testing and its flags.
func TestProgramDoesNotLinkTesting(t *testing.T) {
	text, err := exec.Command("go", "list", "-deps", ".").Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatal(string(failed.Stderr))
	}
	require.NoError(t, err)
	deps := strings.Fields(string(bytes.TrimSpace(text)))
	require.Contains(t, deps, "grantex.dev/grantexhook/internal/sender")
	require.NotContains(t, deps, "testing")
	for _, dep := range deps {
		first, _, _ := strings.Cut(dep, "/")
		require.True(t, !strings.Contains(first, ".") || strings.HasPrefix(dep, "grantex.dev/grantexhook"), "%s is not of the standard library", dep)
	}
}
