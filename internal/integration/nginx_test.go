package integration

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

const refusalSecret = "the secret of the tests of refusals"

type delivery struct {
	header http.Header
	body   []byte
	status int // that the response should have
}

// A postFunc posts a delivery and returns the status of the response.
type postFunc func(delivery) (int, error)

// TestRejectionArrives checks that the sender of a rejected delivery gets the response
// even if the body is larger than the middleware reads. If the connection were
// closed with bytes unread, it would be reset, and the response could be lost.
//
// It isn't parallel, since it depends on how fast bodies are sent.
func TestRejectionArrives(t *testing.T) {
	skipIfShort(t)
	backend := refusing(t)
	proxied := startNginx(t, backend)
	ways := []struct {
		name string
		post postFunc
	}{
		{"nginx that buffers", postBy("http://"+proxied+"/buffered", false)},
		{"nginx that buffers, chunked", postBy("http://"+proxied+"/buffered", true)},
		{"nginx that streams", postBy("http://"+proxied+"/streamed", false)},
		{"nginx that streams, chunked", postBy("http://"+proxied+"/streamed", true)},
		{"HTTP/1.0, writes all first", writeFirst(backend, 0)},
		{"net/http", postBy("http://"+backend, false)},
		{"net/http, chunked", postBy("http://"+backend, true)},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			requireArrives(t, way.post, 8, 300<<10, 1<<20, 300<<10, 1<<20, 4<<20)
		})
	}
}

// TestRejectionArrivesAtSlowSenders checks the same for bodies that are still being
// sent when the server stops reading, after half a second. It keeps the connection for
// another half.
func TestRejectionArrivesAtSlowSenders(t *testing.T) {
	requireArrives(t, writeFirst(refusing(t), 700*time.Millisecond), 100, 300<<10)
}

// tooLate is when a sender can't expect a response any more. One that is late because
// the machine is busy doesn't count.
const tooLate = 900 * time.Millisecond

var errTooLate = errors.New("the body wasn't sent in time")

// requireArrives posts 100 deliveries that must be rejected, half of them unsigned
// and half too large. It checks that at least 99 get the response.
func requireArrives(t *testing.T, post postFunc, atOnce int, sizes ...int) {
	t.Helper()
	const tries = 100
	var deliveries []delivery
	for _, size := range sizes {
		body := bytes.Repeat([]byte("a"), size)
		signed := make(http.Header)
		grantexhook.Sign(signed, refusalSecret, body, time.Now())
		deliveries = append(deliveries,
			delivery{make(http.Header), body, http.StatusUnauthorized},
			delivery{signed, body, http.StatusRequestEntityTooLarge})
	}
	got, lost := postEach(deliveries, tries, atOnce, post)
	if got["late"] > tries/2 {
		t.Skipf("the machine is too busy to send bodies in time: %v", got)
	}
	require.GreaterOrEqual(t, got["right"], tries-1-got["late"], "%v, %v", got, lost)
}

// postEach posts the deliveries in turn. It returns how many had each result, and
// one of the errors.
func postEach(deliveries []delivery, tries, atOnce int, post postFunc) (map[string]int, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		got  = make(map[string]int)
		lost error
		free = make(chan struct{}, atOnce)
	)
	for i := range tries {
		free <- struct{}{}
		wg.Go(func() {
			d := deliveries[i%len(deliveries)]
			status, err := post(d)
			<-free
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == errTooLate:
				got["late"]++
			case err != nil:
				got["lost"]++
			case status != d.status:
				got[http.StatusText(status)]++
			default:
				got["right"]++
			}
			lost = cmp.Or(lost, err)
		})
	}
	wg.Wait()
	return got, lost
}

// refusing serves the middleware and returns its address.
func refusing(t *testing.T) string {
	t.Helper()
	v, err := grantexhook.NewVerifier(refusalSecret, &grantexhook.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var d grantexhook.Dispatcher
	s := httptest.NewServer(v.Middleware(&d))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// postBy posts with net/http, each body on a new connection.
func postBy(url string, chunked bool) postFunc {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	return func(d delivery) (int, error) {
		var r io.Reader = bytes.NewReader(d.body)
		if chunked {
			r = io.MultiReader(r) // net/http doesn't know its length
		}
		req, err := http.NewRequest(http.MethodPost, url, r)
		if err != nil {
			return 0, err
		}
		req.Header = d.header
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return readAnswer(resp)
	}
}

// writeFirst posts with HTTP/1.0, in pieces spread over the given time. It gives up
// as soon as it can't write.
func writeFirst(addr string, over time.Duration) postFunc {
	return func(d delivery) (int, error) {
		begun := time.Now()
		status, err := writeAndRead(addr, over, d)
		if err != nil && over > 0 && time.Since(begun) > tooLate {
			err = errTooLate
		}
		return status, err
	}
}

func writeAndRead(addr string, over time.Duration, d delivery) (int, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST / HTTP/1.0\r\nContent-Length: %d\r\n", len(d.body))
	d.header.Write(&head)
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return 0, err
	}
	const pieces = 20
	for piece := range slices.Chunk(d.body, len(d.body)/pieces+1) {
		time.Sleep(over / pieces)
		if _, err := conn.Write(piece); err != nil {
			return 0, err
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) (int, error) {
	defer resp.Body.Close()
	_, err := io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// nginxConfig is a format for the folder, the address and the server behind it. It
// runs nginx as a single process, which is easy to stop.
const nginxConfig = `
daemon off;
master_process off;
pid %[1]s/nginx.pid;
events {}
http {
	access_log off;
	client_max_body_size 16m;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location /buffered {
			proxy_pass http://%[3]s;
		}
		location /streamed {
			proxy_pass http://%[3]s;
			proxy_http_version 1.1;
			proxy_request_buffering off;
		}
	}
}
`

// startNginx starts nginx in front of a server and returns its address.
func startNginx(t *testing.T, backend string) string {
	t.Helper()
	program := binary(t, "nginx")
	addr, dir := freeAddr(t), t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, addr, backend), 0o600))
	startServer(t, exec.Command(program, "-p", dir, "-c", config, "-e", "stderr"), addr)
	return addr.String()
}
