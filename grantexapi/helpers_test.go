package grantexapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/require"
)

const secret = "4542b7f9be422960094f18d8373130cde8aab2e28346bc29"

// within returns what it receives from c, and fails the test after ten seconds.
func within[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("no value was sent within ten seconds")
	}
	return v
}

// listenLoopback listens on a free port of 127.0.0.1, or of ::1 on a machine
// whose loopback has only IPv6.
func listenLoopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l, err = net.Listen("tcp", "[::1]:0")
	}
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// A pipeListener accepts connections in memory, so a real server runs on the clock
// of a synctest bubble.
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

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipes starts a server in memory, in a bubble, and returns a Transport whose
// connections all end there. Both end with the test.
func servePipes(t *testing.T, h http.Handler) *http.Transport {
	t.Helper()
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	transport := &http.Transport{DialContext: l.dial}
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
		time.Sleep(time.Second) // net/http lingers for half of it over a connection it closes
	})
	return transport
}

// verbs are fmt's verbs, some that don't exist, and flags. %p and %w call no
// method.
var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%O", "%b", "%e", "%E", "%f", "%F", "%g", "%G", "%t", "%c", "%U", "%T",
	"%z", "%!", "%100v", "%-100s", "%.3s", "% x", "%#x", "%+q", "%#q", "%08d", "%[1]v", "%[2]v", "%v%v", "%*d",
}

// requireHidden fails if one of the ways to show the values shows the hidden
// text, as it is or encoded.
func requireHidden(t *testing.T, hidden string, values ...any) {
	t.Helper()
	for _, v := range values {
		for _, verb := range verbs {
			requireNotShown(t, hidden, fmt.Sprintf(verb, v), "%T under "+verb, v)
		}
		requireNotShown(t, hidden, fmt.Sprint(v)+fmt.Sprintln(v)+fmt.Errorf("%w", errors.New(fmt.Sprint(v))).Error(), "%T in Sprint", v)
		requireNotShown(t, hidden, logged(v), "%T in slog", v)
		text, _ := json.Marshal(map[string]any{"v": v})
		requireNotShown(t, hidden, string(text), "%T in JSON", v)
		text, _ = xml.Marshal(v)
		requireNotShown(t, hidden, string(text), "%T in XML", v)
		var page strings.Builder
		require.NoError(t, template.Must(template.New("").Parse("{{.}} {{printf `%q %d` . .}}")).Execute(&page, v))
		requireNotShown(t, hidden, page.String(), "%T in a template", v)
	}
}

func requireNotShown(t *testing.T, hidden, text, format string, v any) {
	t.Helper()
	// Half of it is enough: a precision, a width or an encoding may cut it.
	half := hidden[:len(hidden)/2]
	for _, form := range []string{half, hex.EncodeToString([]byte(half)), base64.StdEncoding.EncodeToString([]byte(half))[:12]} {
		require.NotContains(t, strings.ToLower(strings.NewReplacer(" ", "", "0x", "").Replace(text)), strings.ToLower(form), format, v)
	}
}

// logged returns what slog's handlers write for v.
func logged(v any) string {
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h).With("with", v).WithGroup("g")
		l.Info(fmt.Sprint(v), "v", v, slog.Group("deep", "v", v), "list", []any{v})
	}
	return log.String()
}
