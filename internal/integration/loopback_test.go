package integration

import "net"

// listenLoopback listens on a free port of 127.0.0.1, or of ::1 on a machine
// whose loopback has only IPv6.
func listenLoopback() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return net.Listen("tcp", "[::1]:0")
	}
	return l, nil
}
