package hooktest

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
)

// A memoryServer serves a handler over pipes. All its goroutines begin in the
// bubble of the test, if there is one, and have ended when it is stopped.
type memoryServer struct {
	http.Server
	conns  chan net.Conn
	closed chan struct{}
	wg     sync.WaitGroup // the goroutines of Serve and of the connections, and the handlers
}

// serve lets t have the log of the server, which tells of panics.
func serve(t testing.TB, h http.Handler) *memoryServer {
	t.Helper()
	s := &memoryServer{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.ErrorLog = log.New(t.Output(), "", 0)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.wg.Add(1) // a handler that hijacks its connection outlives it for the server
		defer s.wg.Done()
		h.ServeHTTP(w, r)
	})
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.wg.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.wg.Done()
		}
	}
	s.wg.Go(func() { s.Serve(listener{s}) })
	return s
}

// stop closes the connections and waits for the handlers that still run.
func (s *memoryServer) stop() {
	s.Close()
	s.wg.Wait()
}

// dial connects to the server, which must not be stopped yet.
func (s *memoryServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	s.conns <- conn{server, serverAddr, clientAddr}
	return conn{client, clientAddr, serverAddr}, nil
}

// A listener is the side of a memoryServer that net/http sees.
type listener struct{ *memoryServer }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Addr() net.Addr { return serverAddr }
func (l listener) Close() error   { close(l.closed); return nil }

// A conn is one end of a pipe, with addresses.
type conn struct {
	net.Conn
	local, remote net.Addr
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }
