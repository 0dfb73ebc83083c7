package integration

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a proxy makes of its server.
const (
	proxyPasses  = "passes"
	proxyRefuses = "refuses" // ends every connection, those that there are as well
	proxyHangs   = "hangs"   // takes connections and whatever is sent, and keeps silent
)

// A proxy stands before a server and can take it away. What was sent while it
// hung reaches the server afterwards, as it would one that was stopped.
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

// set does not close the listener: somebody else could have the port when the
// server is to come back.
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

// add keeps a connection for set to close, and closes it now if there are to be
// none.
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

// pump carries bytes, and then their end, in one direction.
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

// wait waits while the proxy hangs, and reports whether it passes.
func (p *proxy) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.state == proxyHangs {
		p.changed.Wait()
	}
	return p.state == proxyPasses
}
