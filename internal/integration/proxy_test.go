package integration

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a proxy does in place of its server.
const (
	proxyPasses  = "passes"
	proxyRefuses = "refuses" // closes every connection, including the open ones
	proxyHangs   = "hangs"   // accepts connections and data, and doesn't respond
)

// A proxy is in front of a server and can make it unreachable. What was sent while the
// proxy hung reaches the server afterwards, as with a server that was paused.
type proxy struct {
	network, server string
	listener        net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	state   string
	conns   map[net.Conn]bool
}

func newProxy(t testing.TB, network, server string) *proxy {
	t.Helper()
	l, err := listenLoopback()
	require.NoError(t, err)
	p := &proxy{network: network, server: server, listener: l, state: proxyPasses, conns: make(map[net.Conn]bool)}
	p.changed = sync.NewCond(&p.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.set(proxyRefuses)
		wg.Wait()
	})
	return p
}

func (p *proxy) addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// set doesn't close the listener: another process could have the port by the time the
// server should come back.
func (p *proxy) set(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	p.changed.Broadcast()
	if state != proxyRefuses {
		return
	}
	for conn := range p.conns {
		conn.Close()
	}
}

// add keeps a connection for set to close, or closes it now if the proxy refuses
// connections.
func (p *proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == proxyRefuses {
		conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *proxy) remove(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	conn.Close()
}

func (p *proxy) carry(client net.Conn) {
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	server, err := net.Dial(p.network, p.server)
	if err != nil || !p.add(server) {
		return
	}
	defer p.remove(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(server, client) })
	p.pump(client, server)
	wg.Wait()
}

// pump copies bytes, and then the end of the stream, in one direction.
func (p *proxy) pump(to, from net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if !p.wait() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err == nil {
			continue
		}
		if c, ok := to.(interface{ CloseWrite() error }); ok && err == io.EOF {
			c.CloseWrite()
			return
		}
		to.Close()
		return
	}
}

// wait waits while the proxy hangs, and reports whether it passes data on.
func (p *proxy) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.state == proxyHangs {
		p.changed.Wait()
	}
	return p.state == proxyPasses
}
