package grantexhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

// compare runs rounds of base and ours in turn and reports the median ratio of their
// times, which other work on the machine disturbs least.
func compare(b *testing.B, perRound int, base, ours func()) {
	b.Helper()
	var ratios []float64
	var spent [2]time.Duration
	round := func(i int, f func()) time.Duration {
		start := time.Now()
		f()
		took := time.Since(start)
		spent[i] += took
		return took
	}
	for b.Loop() {
		var was, is time.Duration
		if len(ratios)%2 == 0 {
			was, is = round(0, base), round(1, ours)
		} else {
			is, was = round(1, ours), round(0, base)
		}
		ratios = append(ratios, float64(is)/float64(was))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	each := float64(perRound * len(ratios))
	b.ReportMetric(float64(spent[0])/each, "base-ns")
	b.ReportMetric(float64(spent[1])/each, "ours-ns")
	b.ReportMetric(0, "ns/op") // of a round of both, which isn't useful
}

// times returns a function that calls f n times, for functions too quick to be timed.
func times(n int, f func()) func() {
	return func() {
		for range n {
			f()
		}
	}
}

// BenchmarkVerify measures Verify relative to a SHA-256 of the same bytes.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{330, 64 << 10, 154241} {
		body := bytes.Repeat([]byte("a"), size)
		h := http.Header{}
		grantexhook.Sign(h, secret, body, time.Now())
		v := newVerifier(b, secret, nil)
		verify := func(h http.Header) func() {
			return func() {
				if err := v.Verify(h, body); err != nil {
					b.Fatal(err)
				}
			}
		}
		for name, ours := range map[string]func(){
			"v2":     verify(h),
			"legacy": verify(without(h.Clone(), grantexhook.HeaderSignatureV2)),
		} {
			b.Run(fmt.Sprintf("%dB/%s", size, name), func(b *testing.B) {
				n := 1 + 200_000/size
				compare(b, n, times(n, func() { sha256.Sum256(body) }), times(n, ours))
				b.ReportMetric(testing.AllocsPerRun(1000, ours), "allocs")
			})
		}
	}
}

// quiet is a ResponseWriter that supports deadlines, as a Server's does, and takes no
// time.
type quiet struct{ h http.Header }

func (w *quiet) Header() http.Header               { return w.h }
func (w *quiet) Write(p []byte) (int, error)       { return len(p), nil }
func (w *quiet) WriteString(s string) (int, error) { return len(s), nil }
func (w *quiet) WriteHeader(int)                   {}
func (w *quiet) SetReadDeadline(time.Time) error   { return nil }

// plain is what you would write without this package: the contract's check and two
// decodings, without a timestamp, a limit or deduplication.
func plain(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	got, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get(grantexhook.HeaderSignature), "sha256="))
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var e grantexhook.RawEvent
	var data grantexhook.TokenIssued
	if json.Unmarshal(body, &e) != nil || e.Type != grantexhook.TypeTokenIssued || json.Unmarshal(e.Data, &data) != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	io.WriteString(w, "handled")
}

func pipeline(b *testing.B) http.Handler {
	b.Helper()
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.TokenIssued]) error { return nil })
	return newVerifier(b, secret, nil).Middleware(&d)
}

// A source makes deliveries of fresh events, as large as the recorded one.
type source struct {
	body, id []byte
	made     int
}

func newSource(b *testing.B) *source {
	b.Helper()
	c := capture.Named("flaky.attempt-1")
	return &source{body: c.Body, id: []byte(c.EventID)}
}

func (s *source) delivery() (http.Header, []byte) {
	s.made++
	body := bytes.Replace(s.body, s.id, fmt.Appendf(nil, "evt_%026d", s.made), 1)
	h := http.Header{"Content-Type": {"application/json"}}
	grantexhook.Sign(h, secret, body, time.Now())
	return h, body
}

func (s *source) requests(n int) []*http.Request {
	all := make([]*http.Request, n)
	for i := range all {
		h, body := s.delivery()
		all[i] = httptest.NewRequest(http.MethodPost, "/webhooks/grantex", chunked(body))
		all[i].Header = h
		all[i].ContentLength = -1
	}
	return all
}

// BenchmarkPipeline measures Middleware and Dispatcher with fresh events, including
// deduplication in the default Store, relative to plain.
func BenchmarkPipeline(b *testing.B) {
	const n = 500
	s, w := newSource(b), &quiet{http.Header{}}
	ours, base := pipeline(b), http.HandlerFunc(plain)
	var ratios []float64
	for b.Loop() {
		took := func(h http.Handler) float64 {
			requests := s.requests(n)
			runtime.GC()
			start := time.Now()
			for _, r := range requests {
				h.ServeHTTP(w, r)
			}
			return float64(time.Since(start))
		}
		if len(ratios)%2 == 0 {
			was := took(base)
			ratios = append(ratios, took(ours)/was)
		} else {
			is := took(ours)
			ratios = append(ratios, is/took(base))
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkServer measures requests through a real server on loopback, relative to
// plain. The clients write prepared requests, so they take little time from the server.
func BenchmarkServer(b *testing.B) {
	const n, clients = 400, 4
	s := newSource(b)
	load := func(h http.Handler) func() {
		srv := httptest.NewServer(h)
		b.Cleanup(srv.Close)
		var conns [clients]net.Conn
		for i := range conns {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(b, err)
			b.Cleanup(func() { conn.Close() })
			conns[i] = conn
		}
		return func() {
			var wg sync.WaitGroup
			for _, conn := range conns {
				wires := make([][]byte, n/clients)
				for i := range wires {
					h, body := s.delivery()
					wires[i] = []byte(head(h) + chunk(body) + lastChunk)
				}
				wg.Go(func() {
					answer := make([]byte, 1024)
					for _, wire := range wires {
						conn.Write(wire)
						n, err := conn.Read(answer)
						if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
							b.Errorf("%q %v", answer[:n], err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
	}
	compare(b, n, load(http.HandlerFunc(plain)), load(pipeline(b)))
}

// BenchmarkForged measures the garbage of a delivery that is rejected after its body was
// read. It should be the same for every size.
func BenchmarkForged(b *testing.B) {
	for _, size := range []int{330, 16 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			body := bytes.Repeat([]byte("a"), size)
			h := http.Header{}
			grantexhook.Sign(h, otherSecret, body, time.Now())
			v := newVerifier(b, secret, &grantexhook.Options{Log: slog.New(slog.DiscardHandler)})
			refuse := v.Middleware(http.NotFoundHandler())
			w := &quiet{http.Header{}}
			reader := bytes.NewReader(body)
			r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(reader))
			r.Header, r.ContentLength = h, -1
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				refuse.ServeHTTP(w, r)
			}
			require.NotEmpty(b, w.h.Get("WWW-Authenticate"))
		})
	}
}
