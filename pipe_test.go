package grantexhook_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pipeListener accepts connections in memory, so a real server and its
// deadlines run on the clock of a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// A pipeClient is the other end of one connection to a server.
type pipeClient struct {
	net.Conn
	r *bufio.Reader
}

// dialPipe starts the server in memory and connects to it, in a bubble. Both end
// with the test.
func dialPipe(t *testing.T, s *http.Server) *pipeClient {
	t.Helper()
	return dialThrough(t, s, func(c net.Conn) net.Conn { return c })
}

// dialThrough is dialPipe with the server's end of the connection wrapped.
func dialThrough(t *testing.T, s *http.Server, wrap func(net.Conn) net.Conn) *pipeClient {
	t.Helper()
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	go s.Serve(l)
	t.Cleanup(func() {
		s.Close()
		time.Sleep(time.Second) // net/http lingers for half of it over a connection it closes
	})
	client, server := net.Pipe()
	l.conns <- wrap(server)
	t.Cleanup(func() { client.Close() })
	return &pipeClient{client, bufio.NewReader(client)}
}

// write sends text in the background, since a pipe has no buffer.
func (c *pipeClient) write(text string) {
	go c.Write([]byte(text))
}

// answer reads the next response, with its body read.
func (c *pipeClient) answer(t *testing.T) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	bodyOf(t, resp)
	return resp
}
