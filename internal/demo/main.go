// Command demo shows examples/nethttp at work: it builds and starts the program,
// sends it deliveries as Grantex makes them, and some that Grantex did not make,
// and prints how each is answered.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

const (
	runTimeout  = time.Minute
	stopTimeout = 5 * time.Second // after which the example is killed
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "grantexhook-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := build(ctx, dir)
	if err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	secret := newSecret()
	p, err := start(ctx, path, "GRANTEX_WEBHOOK_SECRET="+secret, "ADDR="+addr)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, p.stop(out)) }()
	if err := p.listens(ctx, addr); err != nil {
		return err
	}
	fmt.Fprintln(out, "examples/nethttp has started; what it logs is indented")
	return p.receive(ctx, out, "http://"+addr+"/webhooks/grantex", deliveries(secret, time.Now()))
}

// build returns the path of examples/nethttp, built into dir.
func build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "nethttp.exe") // Windows starts nothing without the suffix, and nobody else minds it
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "grantex.dev/grantexhook/examples/nethttp")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return path, nil
}

// freeAddr uses ::1 on a machine whose loopback has only IPv6.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l, err = net.Listen("tcp", "[::1]:0")
	}
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func newSecret() string {
	b := make([]byte, 24)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// A program is the example as it runs. It logs to a file and not to a pipe: what
// it has logged before it answers can be read as soon as the answer is here.
type program struct {
	cmd    *exec.Cmd
	log    *os.File // where reading it has come to
	cancel func()
	exited chan struct{}
}

func start(ctx context.Context, path string, env ...string) (*program, error) {
	w, err := os.Create(path + ".log")
	if err != nil {
		return nil, err
	}
	defer w.Close()
	log, err := os.Open(w.Name())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		cancel()
		log.Close()
		return nil, err
	}
	p := &program{cmd: cmd, log: log, cancel: cancel, exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// interrupt kills where a child cannot be interrupted, which is on Windows.
func interrupt(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(os.Interrupt)
}

// listens waits until p accepts connections.
func (p *program) listens(ctx context.Context, addr string) error {
	var dialer net.Dialer
	for {
		if conn, err := dialer.DialContext(ctx, "tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("examples/nethttp ended before it listened on %s: %v", addr, p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("examples/nethttp does not listen on %s: %w", addr, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// receive sends p the deliveries, one after the other, and fails at the first
// that is not answered as it should be.
func (p *program) receive(ctx context.Context, out io.Writer, url string, all []delivery) error {
	for _, d := range all {
		if err := p.printLog(out); err != nil {
			return err
		}
		answer, err := d.send(ctx, url)
		if err != nil {
			return fmt.Errorf("%s: %w", d.what, err)
		}
		if answer != d.want {
			return fmt.Errorf("%s: the answer is %q, but should be %q", d.what, answer, d.want)
		}
		fmt.Fprintf(out, "%-41s → %s: %s\n", d.what, answer, d.meaning)
	}
	return nil
}

// printLog prints what p has logged since the last time.
func (p *program) printLog(out io.Writer) error {
	text, err := io.ReadAll(p.log)
	for line := range strings.Lines(string(text)) {
		fmt.Fprint(out, "    ", line)
	}
	return err
}

// stop returns an error if p does not end gracefully.
func (p *program) stop(out io.Writer) error {
	p.cancel()
	<-p.exited
	if err := cmp.Or(p.printLog(out), p.log.Close()); err != nil {
		return err
	}
	if !p.cmd.ProcessState.Success() && runtime.GOOS != "windows" {
		return fmt.Errorf("examples/nethttp did not end gracefully: %v", p.cmd.ProcessState)
	}
	fmt.Fprintln(out, "examples/nethttp has stopped")
	return nil
}

// A delivery is one attempt at an event.
type delivery struct {
	what    string
	body    []byte
	secret  string
	sentAt  time.Time
	want    string // the status and the text of the answer
	meaning string
}

func deliveries(secret string, now time.Time) []delivery {
	const (
		handled, duplicate, refused = "200 handled", "200 duplicate", "401 Unauthorized"
		scope                       = "calendar:read"
		principal                   = "user_alice"
	)
	grant, agent, expires := sender.NewID("grnt_", now), sender.NewID("ag_", now), now.Add(24*time.Hour)
	created := newEvent(now, grantexhook.GrantCreated{
		GrantID: grant, AgentID: agent, PrincipalID: principal, Scopes: []string{scope}, ExpiresAt: expires,
	})
	issued := newEvent(now, grantexhook.TokenIssued{
		TokenID: sender.NewID("tok_", now), GrantID: grant, AgentID: agent, PrincipalID: principal, Scopes: []string{scope}, ExpiresAt: expires,
	})
	revoked := newEvent(now, grantexhook.GrantRevoked{GrantID: grant, Cascade: true})
	forged := newEvent(now, grantexhook.GrantCreated{
		GrantID: sender.NewID("grnt_", now), AgentID: agent, PrincipalID: principal, Scopes: []string{"admin"}, ExpiresAt: expires,
	})
	stale := newEvent(now.Add(-time.Hour), grantexhook.GrantRevoked{GrantID: grant})
	return []delivery{
		{"grant.created", created, secret, now, handled, "the handler of its type ran"},
		{"token.issued", issued, secret, now, handled, "the handler of its type ran"},
		{"grant.created again, signed anew", created, secret, now, duplicate, "acknowledged, and not handled twice"},
		{"grant.revoked", revoked, secret, now, handled, "the handler of its type ran"},
		{"grant.created, signed with another secret", forged, newSecret(), now, refused, "forged, no handler saw it"},
		{"grant.revoked, signed an hour ago", stale, secret, now.Add(-time.Hour), refused, "stale, it may be a replay"},
	}
}

// newEvent returns the body of an event as Grantex writes it.
func newEvent(at time.Time, data grantexhook.Payload) []byte {
	e := sender.NewEvent(data.EventType(), data)
	e.CreatedAt = at
	body, err := sender.Body(e)
	if err != nil {
		panic(err)
	}
	return body
}

// send returns the status and the text of the answer.
func (d delivery) send(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.body))
	if err != nil {
		return "", err
	}
	req.ContentLength = -1 // unknown, so that the body goes out chunked, as Grantex sends it
	signed := sender.Parcel{Secret: d.secret, Body: d.body}
	req.Header = signed.Header(d.sentAt)
	resp, err := http.DefaultTransport.RoundTrip(req) // which follows no redirect, as Grantex does not
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return fmt.Sprintf("%d %s", resp.StatusCode, bytes.TrimSpace(text)), err
}
