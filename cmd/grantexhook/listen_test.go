package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/internal/sender"
)

// A screen is what a running command prints. The test may read it at any time.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// find waits for a match of the pattern, and returns its first group.
func (s *screen) find(t *testing.T, pattern string) string {
	t.Helper()
	var m []string
	require.Eventually(t, func() bool {
		m = regexp.MustCompile(pattern).FindStringSubmatch(s.String())
		return m != nil
	}, 10*time.Second, time.Millisecond, "%s in %s", pattern, s)
	return m[1]
}

// A listening is the command listen while it runs.
type listening struct {
	stdout, stderr screen
	url, secret    string
	stop           context.CancelFunc
	status         chan int
}

func listen(t *testing.T, secret string, args ...string) *listening {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listening{secret: secret, stop: stop, status: make(chan int, 1)}
	getenv := func(name string) string {
		if name == "GRANTEX_WEBHOOK_SECRET" {
			return secret
		}
		return ""
	}
	args = append([]string{"listen", "-addr", "127.0.0.1:0"}, args...)
	go func() { l.status <- run(ctx, args, getenv, nil, &l.stdout, &l.stderr) }()
	l.url = l.stderr.find(t, `listening on (\S+)\n(?s:.*)\n  grantexhook send`)
	if secret == "" {
		l.secret = l.stderr.find(t, `export GRANTEX_WEBHOOK_SECRET=([0-9a-f]{48}) `)
	}
	t.Cleanup(func() { l.end(t) })
	return l
}

// end interrupts the command.
func (l *listening) end(t *testing.T) {
	t.Helper()
	if l.status == nil {
		return
	}
	l.stop()
	require.Equal(t, exitDone, <-l.status)
	l.status = nil
}

// send delivers a body and returns the status of the response.
func (l *listening) send(t *testing.T, d sender.Parcel) int {
	t.Helper()
	u, err := sender.ParseURL(l.url)
	require.NoError(t, err)
	d.URL = u
	if d.Secret == "" {
		d.Secret = l.secret
	}
	for a := range d.Attempts(t.Context()) {
		require.NoError(t, a.Err)
		return a.Status
	}
	return 0
}

func TestListenShowsCaptures(t *testing.T) {
	l := listen(t, testSecret)
	for _, c := range capture.All() {
		if strings.HasSuffix(c.Name, "max-size") {
			continue // 150 KB are better compared than shown
		}
		require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: c.Body, Legacy: true}), c.Name)
	}
	strange := `{"id":"evt_\u001b[31m","type":"x.y","createdAt":"2026-11-23T12:01:56.867Z","data":{"a\u0007":"\u202e","b":[1,"c"],"d":["e","\n"],"e":["",""],"f":{"g":null}}}`
	l.send(t, sender.Parcel{Body: []byte(strange), Legacy: true})
	l.send(t, sender.Parcel{Body: []byte(`{"id":"evt_2","type":"x.z","data":[1]}`), Legacy: true})
	l.end(t)
	golden(t, "listen", l.stdout.String())
	require.NotContains(t, l.stdout.String(), "\x1b")
	require.NotContains(t, l.stdout.String()+l.stderr.String(), testSecret)
	require.Contains(t, l.stderr.String(), "evt_01M843VCJBX59VN92Y0MNSTV3N grant.created: duplicate\n")
}

// TestNewSecret checks that every run gets a different secret.
func TestNewSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 10 {
		secret := newSecret()
		require.Regexp(t, "^[0-9a-f]{48}$", secret)
		seen[secret] = true
	}
	require.Len(t, seen, 10)
}

// TestListenJSON checks that a script gets the body byte for byte.
func TestListenJSON(t *testing.T) {
	l := listen(t, "", "-json", "-path", "/x/y")
	require.True(t, strings.HasSuffix(l.url, "/x/y"))
	var want strings.Builder
	seen := map[string]bool{}
	for _, c := range capture.All() {
		require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: c.Body}), c.Name)
		var e head
		require.NoError(t, json.Unmarshal(c.Body, &e))
		if !seen[e.ID] {
			want.WriteString(string(c.Body) + "\n")
		}
		seen[e.ID] = true
	}
	require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: []byte("{\n \"id\": \"1\",\r\n \"type\": \"<\"\n}")}))
	want.WriteString(`{"id":"1","type":"<"}` + "\n")
	require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: []byte(`{ "id":"2", "type":"x" }`)}))
	want.WriteString(`{ "id":"2", "type":"x" }` + "\n")
	l.end(t)
	require.Equal(t, want.String(), l.stdout.String())
}

func TestListenShowsTime(t *testing.T) {
	l := listen(t, testSecret)
	at := time.Now()
	require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: []byte(`{"id":"evt_1","type":"grant.revoked","data":{}}`), Skew: time.Minute}))
	l.end(t)
	signed := regexp.MustCompile(`signed (\S+)\n`).FindStringSubmatch(l.stdout.String())
	require.NotNil(t, signed, l.stdout.String())
	sentAt, err := time.Parse(time.RFC3339, signed[1])
	require.NoError(t, err)
	require.WithinDuration(t, at.Add(time.Minute), sentAt, 20*time.Second)
}

func TestListenRejects(t *testing.T) {
	const from = `rejected from (?:127\.0\.0\.1|\[::1\]):\d+: `
	body := []byte(`{"id":"evt_1","type":"grant.revoked","data":{"grantId":"g"}}`)
	tests := []struct {
		name     string
		delivery sender.Parcel
		status   int
		want     string
	}{
		{"forged", sender.Parcel{Body: body, Secret: "another"}, 401, from + `(bad_signature: bad signature: the signature doesn't match)`},
		{"stale", sender.Parcel{Body: body, Skew: -time.Hour}, 401, `rejected from \S+: (stale: timestamp outside the tolerance of 300 s: it's 3\d\d\d s old)`},
		{"too large", sender.Parcel{Body: make([]byte, grantexhook.DefaultMaxBody+1)}, 413, `rejected from \S+: (too_large)`},
		{"malformed", sender.Parcel{Body: []byte("{}")}, 422, `\n(an event: malformed: malformed event: it has no id)`},
		{"data that does not fit", sender.Parcel{Body: []byte(`{"id":"evt_2","type":"grant.revoked","data":[]}`)}, 422, `(evt_2 grant.revoked: malformed)`},
	}
	l := listen(t, testSecret)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.status, l.send(t, tt.delivery))
			l.stderr.find(t, tt.want)
		})
	}
	l.end(t)
	require.Empty(t, l.stdout.String())
	require.NotContains(t, l.stderr.String(), testSecret)
}

func TestListenWrongPlace(t *testing.T) {
	l := listen(t, testSecret)
	resp, err := http.Get(l.url)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Equal(t, http.MethodPost, resp.Header.Get("Allow"))
	resp, err = http.Post(l.url+"/%1b", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	l.stderr.find(t, `(405 to GET /webhooks/grantex; deliveries go to POST /webhooks/grantex)\n`)
	l.stderr.find(t, `(404 to POST "/webhooks/grantex/\\x1b"; )`)
	resp, err = http.Get(l.url + strings.Repeat("/long", 10_000))
	require.NoError(t, err)
	resp.Body.Close()
	l.stderr.find(t, `\n(404 to GET /webhooks/grantex/long[/long]{0,1000}…; )`)
}

// TestListenOddPath checks that the command prints a URL that can be pasted.
func TestListenOddPath(t *testing.T) {
	l := listen(t, testSecret, "-path", "/a b\u202e\x9b")
	require.True(t, strings.HasSuffix(l.url, "/a%20b%E2%80%AE%9B"), l.url)
	require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: []byte(`{"id":"evt_1","type":"x.y","data":{}}`)}))
	resp, err := http.Get(l.url)
	require.NoError(t, err)
	resp.Body.Close()
	l.stderr.find(t, `(deliveries go to POST "/a b\\u202e\\x9b")\n`)
}

// TestListenSecretFromPipe checks that the file with the secret is read only once.
func TestListenSecretFromPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has no /dev/fd")
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	_, err = io.WriteString(w, testSecret+"\n")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	ctx, stop := context.WithCancel(t.Context())
	stop()
	result := session{}.run(ctx, "listen", "-addr", "127.0.0.1:0", "-secret-file", fmt.Sprintf("/dev/fd/%d", r.Fd()))
	require.Equal(t, exitDone, result.status, result)
}

// TestListenStopsGracefully checks that a delivery is still handled if the command
// is interrupted while its body arrives.
func TestListenStopsGracefully(t *testing.T) {
	l := listen(t, testSecret)
	u, err := sender.ParseURL(l.url)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	body := `{"id":"evt_1","type":"grant.revoked","data":{"grantId":"g"}}`
	d := sender.Parcel{Secret: testSecret, Body: []byte(body)}
	req, err := http.NewRequest(http.MethodPost, l.url, nil)
	require.NoError(t, err)
	req.Header = d.Header(time.Now())
	var head bytes.Buffer
	require.NoError(t, req.Write(&head))
	text := strings.Replace(head.String(), "Content-Length: 0\r\n", "Expect: 100-continue\r\nContent-Length: "+"60\r\n", 1)
	require.Len(t, body, 60)
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	answer := make([]byte, 1000)
	n, err := conn.Read(answer) // the handler waits for the body
	require.NoError(t, err)
	require.Contains(t, string(answer[:n]), "100 Continue")
	l.stop()
	require.Eventually(t, func() bool { _, err := net.Dial("tcp", u.Host); return err != nil }, 10*time.Second, time.Millisecond)
	_, err = io.WriteString(conn, body)
	require.NoError(t, err)
	n, err = conn.Read(answer)
	require.NoError(t, err)
	require.Contains(t, string(answer[:n]), "200 OK")
	l.end(t)
	require.Contains(t, l.stdout.String(), "evt_1")
}

// TestListenWithoutOutput checks that an event is rejected if it can't be shown, and
// a retry isn't a duplicate.
func TestListenWithoutOutput(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	l := &listening{secret: testSecret, stop: stop}
	status := make(chan int)
	getenv := func(name string) string { return map[string]string{"GRANTEX_WEBHOOK_SECRET": testSecret}[name] }
	go func() {
		status <- run(ctx, []string{"listen", "-json", "-addr", "127.0.0.1:0"}, getenv, nil, brokenPipe{}, &l.stderr)
	}()
	l.url = l.stderr.find(t, `listening on (\S+)\n`)
	body := []byte(`{"id":"evt_1","type":"grant.revoked","data":{}}`)
	for range 2 {
		require.Equal(t, http.StatusInternalServerError, l.send(t, sender.Parcel{Body: body}))
	}
	stop()
	require.Equal(t, exitFailed, <-status)
	require.Contains(t, l.stderr.String(), "evt_1 grant.revoked: failed: broken pipe\n")
}

func TestListenAddressTaken(t *testing.T) {
	taken, err := listenOn("127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // if it listens after all, it doesn't end by itself
	defer cancel()
	r := withSecret().run(ctx, "listen", "-addr", taken.Addr().String())
	require.Equal(t, exitFailed, r.status)
	require.Equal(t, "grantexhook: another program, perhaps your receiver, is already listening on "+taken.Addr().String()+"\n"+
		"hint: grantexhook listen -addr 127.0.0.1:0 takes any free port\n", r.stderr)
}
