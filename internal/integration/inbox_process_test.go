package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/riverinbox"
)

// inboxVariable holds the settings of a process with an inbox. If it's set, the test
// binary is that process and doesn't run tests.
const inboxVariable = "GRANTEXHOOK_TEST_INBOX"

type inboxSettings struct {
	place
	Work  bool // if false, it only stores events
	Stuck bool // if true, handlers never return
}

// serveInbox prints the address that it listens on, then a line when a handler begins
// and another when it ends. It ends with its standard input, so it doesn't outlive the
// test.
func serveInbox(settings []byte) error {
	var s inboxSettings
	if err := json.Unmarshal(settings, &s); err != nil {
		return err
	}
	v, err := grantexhook.NewVerifier(inboxSecret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		return err
	}
	var printing sync.Mutex
	log := func(what string, e grantexhook.Event[grantexhook.GrantRevoked]) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Println(what, e.ID)
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		log("begins", e)
		if s.Stuck {
			select {}
		}
		log("handled", e)
		return nil
	})
	in, err := openInbox(context.Background(), s.place, d.Dispatch, riverinbox.Options{
		Timeout:   time.Second,
		Workers:   100,
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Configure: func(c *river.Config) { c.FetchCooldown = 10 * time.Millisecond },
	})
	if err != nil {
		return err
	}
	if s.Work {
		if err := in.Start(context.Background()); err != nil {
			return err
		}
	}
	l, err := listenLoopback()
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, in.Handler(v.Middleware))
}

// An inboxProcess is a process with an inbox.
type inboxProcess struct {
	*exec.Cmd
	url string

	mu    sync.Mutex
	lines map[string]int // how often each line was printed
}

func startInbox(t *testing.T, s inboxSettings) *inboxProcess {
	t.Helper()
	settings, err := json.Marshal(s)
	require.NoError(t, err)
	p := &inboxProcess{Cmd: exec.CommandContext(t.Context(), withoutRace(t)), lines: make(map[string]int)}
	p.Env = append(os.Environ(), inboxVariable+"="+string(settings))
	p.Stderr = os.Stderr
	_, err = p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(p.kill)
	lines := bufio.NewReader(out)
	url, err := lines.ReadString('\n')
	require.NoError(t, err)
	p.url = strings.TrimSpace(url)
	go p.listen(lines)
	return p
}

// withoutRace returns the path of this test binary, built without the race detector.
// SQLite is Go code here and is thirteen times slower with it.
func withoutRace(t *testing.T) string {
	t.Helper()
	plain.Do(func() {
		if plain.path, plain.err = plainPath(); plain.err != nil {
			return
		}
		text, err := exec.Command("go", "test", "-c", "-o", plain.path, ".").CombinedOutput()
		if err != nil {
			plain.err = fmt.Errorf("go test -c: %w\n%s", err, text)
		}
	})
	require.NoError(t, plain.err)
	return plain.path
}

// plain is removed by TestMain.
var plain struct {
	sync.Once
	path string
	err  error
}

func plainPath() (string, error) {
	dir, err := os.MkdirTemp("", "grantexhook-")
	return filepath.Join(dir, "integration.test.exe"), err
}

func (p *inboxProcess) listen(lines *bufio.Reader) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		p.mu.Lock()
		p.lines[strings.TrimSpace(line)]++
		p.mu.Unlock()
	}
}

// kill ends the process at once.
func (p *inboxProcess) kill() {
	p.Process.Kill()
	p.Wait()
}

func (p *inboxProcess) count(line string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[line]
}

// handled returns how many events have been handled, and how often in total.
func (p *inboxProcess) handled() (events, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line, n := range p.lines {
		if strings.HasPrefix(line, "handled ") {
			events, times = events+1, times+n
		}
	}
	return events, times
}

// The test checks that an inbox has each event that it acknowledged, although it's
// killed while it stores events and again after it has stored them all.
func TestInboxKeepsWhatItAcknowledged(t *testing.T) {
	skipIfShort(t)
	const events, clients = 4000, 8
	onEachInbox(t, func(t *testing.T, where place) {
		newInbox(t, where, drop, riverinbox.Options{})
		var todo []int
		for i := range events {
			todo = append(todo, i)
		}
		p := startInbox(t, inboxSettings{place: where})
		todo = p.deliver(t, todo, clients, events/2)
		require.NotEmpty(t, todo)
		p = startInbox(t, inboxSettings{place: where})
		require.Empty(t, p.deliver(t, todo, clients, 0))
		p.kill()

		p = startInbox(t, inboxSettings{place: where, Work: true})
		require.Eventually(t, func() bool { n, _ := p.handled(); return n == events }, 2*time.Minute, 50*time.Millisecond)
		_, times := p.handled()
		require.Equal(t, events, times, "no process was killed while it handled events")
	})
}

// deliver sends events from several clients, kills the process after some of them, and
// returns the events that weren't acknowledged.
func (p *inboxProcess) deliver(t *testing.T, events []int, clients, killAfter int) (left []int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	acknowledged := 0
	note := func(i, status int, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case status == http.StatusOK:
			if acknowledged++; acknowledged == killAfter {
				p.Process.Kill()
			}
		case err != nil && killAfter > 0:
			left = append(left, i)
		default:
			t.Error(i, status, err)
		}
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for k := c; k < len(events); k += clients {
				status, _, err := post(t.Context(), client, p.url, inboxSecret, eventBody(fmt.Sprint("evt_", events[k]), "grnt_1"))
				note(events[k], status, err)
			}
		})
	}
	wg.Wait()
	return left
}

// The test checks that an event whose process is killed is handled by another process,
// in the time that the documentation gives.
func TestInboxWorkOfAKilledProcess(t *testing.T) {
	skipIfShort(t)
	onEachInbox(t, func(t *testing.T, where place) {
		newInbox(t, where, drop, riverinbox.Options{})
		killed := startInbox(t, inboxSettings{place: where, Work: true, Stuck: true})
		status, _, err := post(t.Context(), http.DefaultClient, killed.url, inboxSecret, eventBody("evt_1", "grnt_1"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.Eventually(t, func() bool { return killed.count("begins evt_1") == 1 }, 20*time.Second, 10*time.Millisecond)
		begun := time.Now()
		other := startInbox(t, inboxSettings{place: where, Work: true})
		killed.kill()
		require.Eventually(t, func() bool { return other.count("handled evt_1") == 1 }, 2*time.Minute, 50*time.Millisecond)
		t.Logf("handled %.1f s after the killed process began", time.Since(begun).Seconds())
		require.Equal(t, 1, other.count("begins evt_1"))
	})
}
