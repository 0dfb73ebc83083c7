package grantexhook_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// TestMiddlewareBodies checks that bodies around the size of a page or several are
// verified and passed on whole, however they're split on the way.
func TestMiddlewareBodies(t *testing.T) {
	const page = 4 << 10
	for _, size := range []int{0, 1, page - 1, page, page + 1, 2 * page, 3*page + 7, grantexhook.DefaultMaxBody} {
		body := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		h := http.Header{}
		grantexhook.Sign(h, secret, body, time.Now())
		for name, cut := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "with its end": iotest.DataErrReader,
		} {
			for _, header := range []http.Header{h, without(h.Clone(), grantexhook.HeaderSignatureV2)} {
				rec := newReceiver(t, secret, grantexhook.Options{})
				rec.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", header, cut(bytes.NewReader(body))))
				require.Equal(t, 1, rec.spy.calls, "%d bytes, %s", size, name)
				require.True(t, bytes.Equal(body, rec.spy.body), "%d bytes, %s", size, name)
			}
		}
	}
}

// A stalled body blocks after its data.
type stalled struct {
	io.Reader
	waiting *sync.WaitGroup
	end     chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		s.waiting.Done()
		<-s.end
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// stall lets n requests send size bytes each. They then block until the function
// that it returns is called.
func stall(t *testing.T, h http.Handler, n, size int) (release func()) {
	t.Helper()
	sent := strings.Repeat("a", size)
	end := make(chan struct{})
	var served, waiting sync.WaitGroup
	waiting.Add(n)
	for range n {
		r := newPost(t, "/", signed(secret, time.Now()), &stalled{strings.NewReader(sent), &waiting, end})
		served.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
	}
	waiting.Wait()
	return func() { close(end); served.Wait() }
}

func heap() int64 {
	for range 3 { // a sync.Pool keeps its content through one collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMiddlewarePinsLittle checks that an unverified body takes little more memory
// than it has bytes, and never a larger buffer that another body left behind.
func TestMiddlewarePinsLittle(t *testing.T) {
	h := newVerifier(t, secret, &grantexhook.Options{Log: slog.New(slog.DiscardHandler)}).Middleware(new(spy))
	const slow = 150_000
	before := heap()
	release := stall(t, h, 100, slow)
	grown := heap() - before
	release()
	require.Less(t, grown, int64(1.5*100*slow))

	before = heap()
	stall(t, h, 200, grantexhook.DefaultMaxBody-1)()
	release = stall(t, h, 200, 1)
	grown = heap() - before
	release()
	require.Less(t, grown, int64(10<<20))
}

// TestMiddlewareReusesPages checks that the garbage of forged deliveries doesn't
// grow with their size.
func TestMiddlewareReusesPages(t *testing.T) {
	const n, size = 20, grantexhook.DefaultMaxBody
	h := newVerifier(t, secret, &grantexhook.Options{Log: slog.New(slog.DiscardHandler)}).Middleware(new(spy))
	body := bytes.Repeat([]byte("a"), size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		h.ServeHTTP(httptest.NewRecorder(), newPost(t, "/", signed(secret, time.Now()), bytes.NewReader(body)))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(n*size/2), "the race detector makes a sync.Pool drop a quarter")
}
