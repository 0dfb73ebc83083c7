package sender_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/internal/sender"
)

// A server handles the other end of a connection.
type server func(net.Conn)

// answering reads the request and responds with the text.
func answering(text string) server {
	return func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, text)
	}
}

func readRequest(r io.Reader) (raw string) {
	var b strings.Builder
	req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(r, &b)))
	if err == nil {
		io.Copy(io.Discard, req.Body)
	}
	return b.String()
}

// newParcel returns a parcel for s. It goes over connections in memory, which have
// ended when the test ends.
func newParcel(t *testing.T, s server) *sender.Parcel {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &sender.Parcel{
		URL:    &url.URL{Scheme: "http", Host: "example.com", Path: "/hook"},
		Secret: "secret",
		Body:   []byte(`{"id":"evt_1"}`),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			wg.Go(func() {
				defer server.Close()
				s(server)
			})
			return client, nil
		},
	}
}

func attempts(t *testing.T, d *sender.Parcel) (all []sender.Attempt) {
	t.Helper()
	for a := range d.Attempts(t.Context()) {
		all = append(all, a)
	}
	require.NotEmpty(t, all)
	return all
}

func first(t *testing.T, d *sender.Parcel) sender.Attempt {
	t.Helper()
	for a := range d.Attempts(t.Context()) {
		return a
	}
	t.Fatal("no attempt")
	return sender.Attempt{}
}

// TestAttemptsOfCaptures checks that a failure is retried at the recorded times,
// with the recorded signatures.
func TestAttemptsOfCaptures(t *testing.T) {
	var recorded []capture.Recording
	for _, c := range capture.All() {
		if strings.HasPrefix(c.Name, "retry.attempt-") {
			recorded = append(recorded, c)
		}
	}
	require.Len(t, recorded, sender.MaxAttempts)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(recorded[0].SentAt()))
		raw := make(chan string, sender.MaxAttempts)
		d := newParcel(t, func(c net.Conn) {
			raw <- readRequest(c)
			io.WriteString(c, "HTTP/1.1 500 \r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
		})
		d.URL, d.Secret, d.Body = urlOf(t, recorded[0]), recorded[0].Secret, recorded[0].Body
		all := attempts(t, d)
		require.Len(t, all, len(recorded))
		for i, c := range recorded {
			require.Equal(t, http.StatusInternalServerError, all[i].Status)
			require.Equal(t, c.SentAt().Unix(), all[i].At.Unix())
			require.Equal(t, string(c.Wire()), <-raw)
		}
	})
}

// TestSoonest checks that retries come as early as Grantex can send them, however
// long an attempt takes.
func TestSoonest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newParcel(t, func(c net.Conn) {
			readRequest(c)
			time.Sleep(5 * time.Second)
			io.WriteString(c, "HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n")
		})
		d.Soonest = true
		start := time.Now()
		var began []time.Duration
		for _, a := range attempts(t, d) {
			began = append(began, a.At.Sub(start))
		}
		require.Equal(t, []time.Duration{0, 30 * time.Second, 90 * time.Second, 210 * time.Second, 450 * time.Second}, began)
	})
}

func TestResponses(t *testing.T) {
	tests := []struct {
		name      string
		answer    string
		status    int
		delivered bool
		attempts  int
	}{
		{"200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, true, 1},
		{"299 to the end of the connection", "HTTP/1.0 299 \r\n\r\nok", 299, true, 1},
		{"201 after informational ones", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 201 \r\nContent-Length: 0\r\n\r\n", 201, true, 1},
		{"200 with a body larger than headers may be", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("a", 100_000), 200, true, 1},
		{"204 crashes", "HTTP/1.1 204 No Content\r\n\r\n", 204, false, 1},
		{"205 crashes", "HTTP/1.1 205 \r\nContent-Length: 0\r\n\r\n", 205, false, 1},
		{"304 crashes", "HTTP/1.1 304 \r\n\r\n", 304, false, 1},
		{"a redirect fails", "HTTP/1.1 307 \r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 307, false, 5},
		{"410 fails like others", "HTTP/1.1 410 \r\nContent-Length: 0\r\n\r\n", 410, false, 5},
		{"429 fails, whatever it asks for", "HTTP/1.1 429 \r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", 429, false, 5},
		{"no response", "", 0, false, 5},
		{"no HTTP", "hello\r\n", 0, false, 5},
		{"half a response", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 0, false, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := attempts(t, newParcel(t, answering(tt.answer)))
				require.Len(t, all, tt.attempts)
				for _, a := range all {
					require.Equal(t, tt.status, a.Status)
					require.Equal(t, tt.delivered, a.Delivered())
					require.Equal(t, tt.status == 0, a.Err != nil, a.Err)
					require.NotErrorIs(t, a.Err, context.DeadlineExceeded)
				}
			})
		})
	}
}

// TestHangUp checks that the ten seconds are for the whole exchange.
func TestHangUp(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	tests := []struct {
		name    string
		serve   server
		timeout time.Duration
		took    time.Duration
		status  int
	}{
		{"a response just in time", func(c net.Conn) { readRequest(c); time.Sleep(10*time.Second - 1); io.WriteString(c, whole) }, 0, 10*time.Second - 1, 200},
		{"no response", func(c net.Conn) { readRequest(c); io.Copy(io.Discard, c) }, 0, 10 * time.Second, 0},
		{"the request is not read", func(net.Conn) { time.Sleep(time.Minute) }, 0, 10 * time.Second, 0},
		{"a response that doesn't end", func(c net.Conn) { answering(whole[:len(whole)-1])(c); time.Sleep(time.Minute) }, 0, 10 * time.Second, 0},
		{"a long response that doesn't end", func(c net.Conn) {
			answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("a", 999))(c)
			time.Sleep(time.Minute)
		}, 0, 10 * time.Second, 0},
		{"hanging up early", func(c net.Conn) { readRequest(c); io.Copy(io.Discard, c) }, time.Second, time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newParcel(t, tt.serve)
				d.Timeout = tt.timeout
				a := first(t, d)
				require.Equal(t, tt.took, a.Took)
				require.Equal(t, tt.status, a.Status)
				if tt.status == 0 {
					require.ErrorIs(t, a.Err, context.DeadlineExceeded)
				}
			})
		})
	}
}

func TestAttemptsEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(time.Minute+time.Second, cancel).Stop()
		var n int
		for a := range newParcel(t, answering("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n")).Attempts(ctx) {
			require.Equal(t, http.StatusInternalServerError, a.Status)
			n++
		}
		require.Equal(t, 2, n)
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	})
}

// TestAttemptsEndBeforeTheDeadline checks that there's no wait for an attempt that
// would come too late.
func TestAttemptsEndBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		start, n := time.Now(), 0
		for range newParcel(t, answering("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n")).Attempts(ctx) {
			n++
		}
		require.Equal(t, 2, n)
		require.Equal(t, time.Minute, time.Since(start))
	})
}
