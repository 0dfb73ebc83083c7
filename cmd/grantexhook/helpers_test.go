package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// golden compares got with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test -update writes it")
	require.Equal(t, string(want), got)
}

// A session is the world around a command.
type session struct {
	env   map[string]string
	stdin string
	dial  func(context.Context, string, string) (net.Conn, error)
}

// A result is what a command printed, and its exit status.
type result struct {
	status         int
	stdout, stderr string
}

// String shows a result for a golden file.
func (r result) String() string {
	return fmt.Sprintf("%s--- stderr\n%s--- exit status %d\n", r.stdout, r.stderr, r.status)
}

func (s session) run(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{
		getenv: func(name string) string { return s.env[name] },
		stdin:  strings.NewReader(s.stdin),
		stdout: &output{w: &stdout},
		stderr: &output{w: &stderr},
		dial:   s.dial,
	}
	status := a.run(ctx, args)
	return result{status, stdout.String(), stderr.String()}
}

// testSecret looks like the secrets of Grantex.
const testSecret = "4542b7f9be422960094f18d8373130cde8aab2e28346bc29"

func withSecret() session {
	return session{env: map[string]string{"GRANTEX_WEBHOOK_SECRET": testSecret}}
}

// A memory is a listener for connections in memory, which work in a bubble.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
}

// serveMemory serves h until the test ends. It returns a dial function that connects
// to h for any address.
func serveMemory(t *testing.T, h http.Handler) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	m := &memory{make(chan net.Conn), make(chan struct{})}
	s := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(m) })
	t.Cleanup(func() { s.Close(); wg.Wait() })
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case m.conns <- server:
			return client, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { close(m.closed); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// A brokenPipe fails every write.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
