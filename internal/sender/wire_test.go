package sender_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/internal/sender"
)

// TestWireOfCaptures checks that, at the time of each recording, the recorded bytes
// are sent.
func TestWireOfCaptures(t *testing.T) {
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(c.SentAt()))
				var raw string
				d := newParcel(t, func(c net.Conn) {
					raw = readRequest(c)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				})
				d.URL, d.Secret, d.Body = urlOf(t, c), c.Secret, c.Body
				a := first(t, d)
				require.NoError(t, a.Err)
				require.Equal(t, string(c.Wire()), raw)
			})
		})
	}
}

// TestResponseBeforeTheBody checks that a rejection counts even if it comes before the
// body was read.
func TestResponseBeforeTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newParcel(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 100))
			io.WriteString(c, "HTTP/1.1 401 \r\nContent-Length: 0\r\n\r\n")
		})
		d.Body = make([]byte, 1<<20)
		require.Equal(t, http.StatusUnauthorized, first(t, d).Status)
	})
}

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := make(chan string, sender.MaxAttempts)
		d := newParcel(t, func(c net.Conn) {
			raw <- readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		d.Cut = 2
		all := attempts(t, d)
		require.Len(t, all, 3)
		require.ErrorIs(t, all[0].Err, sender.ErrCut)
		require.ErrorIs(t, all[1].Err, sender.ErrCut)
		require.Equal(t, http.StatusOK, all[2].Status)
		for _, end := range []string{`{"id":"`, `{"id":"`, `{"id":"evt_1"}` + "\r\n0\r\n\r\n"} {
			_, body, _ := strings.Cut(<-raw, "\r\n\r\n")
			require.Equal(t, "e\r\n"+end, body)
		}
	})
}

// TestEmptyBody checks that an empty body has no chunk, and no end if it's cut.
func TestEmptyBody(t *testing.T) {
	for cut, want := range []string{"0\r\n\r\n", ""} {
		synctest.Test(t, func(t *testing.T) {
			raw := make(chan []byte, 1)
			d := newParcel(t, func(c net.Conn) {
				all, _ := io.ReadAll(c)
				raw <- all
			})
			d.Body, d.Cut, d.Timeout = nil, cut, time.Second
			require.Equal(t, cut == 1, errors.Is(first(t, d).Err, sender.ErrCut))
			_, body, found := strings.Cut(string(<-raw), "\r\n\r\n")
			require.True(t, found)
			require.Equal(t, want, body)
		})
	}
}

// TestCutOfAConnectionThatIsGone checks that ErrCut is returned only for a cut that
// was made.
func TestCutOfAConnectionThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newParcel(t, func(net.Conn) {})
		d.Cut = 1
		a := first(t, d)
		require.Error(t, a.Err)
		require.NotErrorIs(t, a.Err, sender.ErrCut)
	})
}

func TestConnect(t *testing.T) {
	tests := []struct{ name, url, addr string }{
		{"port", "http://example.com:8080/x", "example.com:8080"},
		{"http", "http://example.com", "example.com:http"},
		{"https", "https://example.com", "example.com:https"},
		{"IPv6", "http://[::1]:80/", "[::1]:80"},
	}
	errDial := errors.New("no network here")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := sender.ParseURL(tt.url)
			require.NoError(t, err)
			var addr string
			d := &sender.Parcel{URL: u, Dial: func(_ context.Context, network, a string) (net.Conn, error) {
				require.Equal(t, "tcp", network)
				addr = a
				return nil, errDial
			}}
			require.ErrorIs(t, first(t, d).Err, errDial)
			require.Equal(t, tt.addr, addr)
		})
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u, err := sender.ParseURL(s.URL)
	require.NoError(t, err)
	err = first(t, &sender.Parcel{URL: u}).Err
	require.ErrorContains(t, err, "certificate", "the test's server is not trusted")
}

// TestHandshakeEndsTheConnection checks that no connection stays open after a
// handshake that failed.
func TestHandshakeEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newParcel(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 1))
			go io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, c)
		})
		d.URL.Scheme = "https"
		_, failed := errors.AsType[*sender.HandshakeError](first(t, d).Err)
		require.True(t, failed)
	})
}

func TestLoopback(t *testing.T) {
	seen := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		io.Copy(w, r.Body)
	}))
	defer s.Close()
	u, err := sender.ParseURL(s.URL + "/hook?x=1")
	require.NoError(t, err)
	a := first(t, &sender.Parcel{URL: u, Secret: "secret", Body: make([]byte, sender.MaxBody)})
	require.NoError(t, a.Err)
	require.True(t, a.Delivered())
	got := <-seen
	require.Equal(t, int64(-1), got.ContentLength)
	require.Equal(t, []string{"chunked"}, got.TransferEncoding)
	require.Equal(t, "/hook?x=1", got.RequestURI)
}

// TestResponseHead checks that headers without an end take little memory, also
// those of informational responses.
func TestResponseHead(t *testing.T) {
	tests := []struct{ name, start, again string }{
		{"many headers", "HTTP/1.1 200 OK\r\n", "A: b\r\n"},
		{"one header", "HTTP/1.1 200 OK\r\nA: ", strings.Repeat("b", 100)},
		{"one status line", "HTTP/1.1 200 ", strings.Repeat("b", 100)},
		{"informational responses", "", "HTTP/1.1 103 \r\nA: b\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				p := newParcel(t, func(c net.Conn) {
					readRequest(c)
					io.WriteString(c, tt.start)
					for sent < 100<<20 {
						n, err := io.WriteString(c, tt.again)
						if sent += n; err != nil {
							return
						}
					}
				})
				require.EqualError(t, first(t, p).Err, "grantexhook: the headers of the response are larger than 65536 bytes")
				synctest.Wait() // for the server
				require.Less(t, sent, 1<<20)
			})
		})
	}
}

// TestExcerpt checks that the beginning of a body is kept, and the rest is read.
func TestExcerpt(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"none", "", ""},
		{"a word", "handled", "handled"},
		{"as long as it may be", strings.Repeat("a", 512), strings.Repeat("a", 512)},
		{"longer", strings.Repeat("a", 1<<20), strings.Repeat("a", 512)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := first(t, newParcel(t, answering("HTTP/1.0 200 OK\r\n\r\n"+tt.body)))
				require.NoError(t, a.Err)
				require.Equal(t, tt.want, a.Excerpt)
			})
		})
	}
}

// TestWrongScheme checks that the errors show which of http and https the server
// speaks.
func TestWrongScheme(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParcel(t, answering("\x15\x03\x01\x00\x02\x02\x46"))
		require.ErrorIs(t, first(t, p).Err, sender.ErrNotHTTP)
		p = newParcel(t, answering("HTTP/1.1 400 Bad Request\r\n\r\n"))
		p.URL.Scheme = "https"
		var handshake *sender.HandshakeError
		require.ErrorAs(t, first(t, p).Err, &handshake)
		var record tls.RecordHeaderError
		require.ErrorAs(t, handshake, &record)
	})
}
