package integration

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary returns the path of a program that not every machine has. On Debian,
// servers are only on the PATH of root.
func binary(t *testing.T, name string) string {
	t.Helper()
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s isn't installed, and CI is set", name)
	}
	t.Skipf("%s isn't installed; Debian has it", name)
	return ""
}

// freeAddr returns an address with a free port.
func freeAddr(t *testing.T) *net.TCPAddr {
	t.Helper()
	l, err := listenLoopback()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().(*net.TCPAddr)
}

// startServer runs a server until the test ends.
func startServer(t *testing.T, cmd *exec.Cmd, addr net.Addr) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	stop := func() { cmd.Process.Kill(); <-exited }
	t.Cleanup(stop)
	for range 1000 {
		conn, err := net.Dial(addr.Network(), addr.String())
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-exited:
			require.Fail(t, cmd.Path+" exited", output.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	require.Fail(t, cmd.Path+" doesn't listen", output.String())
}
