package hooktest

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
)

// A memoryServer serves a handler over pipes. All its goroutines start in the caller's
// bubble, if it has one, and end before stop returns.
type memoryServer struct {
	http.Server
	conns  chan net.Conn
	closed chan struct{}
	wg     sync.WaitGroup // for Serve, the connections and the handlers
}

// serve starts a server. Its log, which is the standard logger if nil, gets for example
// the stack of a handler that panics.
func serve(h http.Handler, log *log.Logger) *memoryServer {
	s := &memoryServer{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.ErrorLog = log
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.wg.Add(1) // the server forgets a hijacked connection before its handler returns
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

// stop closes the connections and waits for the handlers that are still running.
func (s *memoryServer) stop() {
	s.Close()
	s.wg.Wait()
}

var errStopped = errors.New("hooktest: the server is closed")

// dial connects to the server, whatever the address is.
func (s *memoryServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case s.conns <- conn{server, serverAddr, clientAddr}:
		return conn{client, clientAddr, serverAddr}, nil
	case <-s.closed:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A listener is the net.Listener of a memoryServer.
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

// The addresses look like those of a server on this machine, since handlers may parse
// them.
var (
	serverAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	clientAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 49152}
)

// A conn is one end of a pipe, with addresses.
type conn struct {
	net.Conn
	local, remote net.Addr
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }
