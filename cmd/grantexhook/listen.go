package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"grantex.dev/grantexhook"
)

const (
	defaultAddr = "127.0.0.1:8080"
	defaultPath = "/webhooks/grantex"

	// stopTimeout is how long deliveries may take after an interrupt.
	stopTimeout = 10 * time.Second
)

var listenCommand = command{
	name: "listen",
	about: `Receive deliveries, verify them and print each event.
Without a secret it generates one, and shows how to send to it. Rejected
deliveries and duplicates are reported on standard error.`,
	examples: `grantexhook listen
GRANTEX_WEBHOOK_SECRET_FILE=secret.txt grantexhook listen -addr 127.0.0.1:9000
grantexhook listen -json | jq .data.grantId`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := &listenCmd{app: a}
		fs.StringVar(&c.addr, "addr", defaultAddr, "listen on `HOST:PORT`; port 0 picks a free port")
		fs.StringVar(&c.path, "path", defaultPath, "receive deliveries at `PATH`")
		fs.BoolVar(&c.json, "json", false, "print the body of each event on one line")
		c.secretFile = fileFlag(fs, "secret", "secret")
		return c.run
	},
}

// A listenCmd is the command listen.
type listenCmd struct {
	*app
	addr, path string
	json       bool
	secretFile *string
}

func (c *listenCmd) run(ctx context.Context, _ []string) error {
	if !strings.HasPrefix(c.path, "/") || strings.ContainsAny(c.path, "?#") {
		return usageError("the path must begin with / and must not contain ? or #", "grantexhook listen -path "+defaultPath)
	}
	secret, made, err := c.secretOrNew()
	if err != nil {
		return err
	}
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{Refused: c.rejected, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	const freePort = "grantexhook listen -addr 127.0.0.1:0 takes any free port"
	if isTaken(c.addr) {
		return failed(fmt.Errorf("another program, perhaps your receiver, is already listening on %s", c.addr), freePort)
	}
	socket, err := listenOn(c.addr)
	if err != nil {
		return failed(err, freePort)
	}
	c.introduce(socket.Addr(), secret, made)
	return c.serve(ctx, socket, v.Middleware(c.dispatcher()))
}

// isTaken reports whether a program listens on addr. Some systems let another one
// listen on 127.0.0.1 while it listens on all addresses.
func isTaken(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// listenOn uses ::1 instead of 127.0.0.1 on a machine whose loopback has only IPv6.
func listenOn(addr string) (net.Listener, error) {
	socket, err := net.Listen("tcp", addr)
	host, port, _ := net.SplitHostPort(addr)
	if err == nil || host != "127.0.0.1" || hasIPv4() {
		return socket, err
	}
	return net.Listen("tcp", net.JoinHostPort("::1", port))
}

func hasIPv4() bool {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		socket.Close()
	}
	return err == nil
}

func (c *listenCmd) secretOrNew() (secret string, made bool, err error) {
	secret, err = c.setting("secret", *c.secretFile)
	if err != nil || secret == "" {
		return newSecret(), true, err
	}
	return secret, false, checkSecret(secret)
}

// newSecret returns a secret in the form that Grantex uses.
func newSecret() string {
	random := make([]byte, 24)
	rand.Read(random)
	return hex.EncodeToString(random)
}

func (c *listenCmd) introduce(addr net.Addr, secret string, made bool) {
	to := url.URL{Scheme: "http", Host: addr.String(), Path: c.path}
	c.note("listening on %s", &to)
	c.note("send to it from another terminal:")
	if made {
		c.note("  export GRANTEX_WEBHOOK_SECRET=%s  # generated for this run, since no secret was set", secret)
	}
	c.note("  grantexhook send %s %s", grantexhook.TypeGrantCreated, &to)
}

// serve handles requests until ctx ends, and then lets the deliveries in flight finish.
func (c *listenCmd) serve(ctx context.Context, socket net.Listener, deliveries http.Handler) error {
	s := &http.Server{
		Handler:           c.route(deliveries),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- s.Shutdown(ctx)
	})
	if err := s.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// route reports requests with the wrong path or method.
func (c *listenCmd) route(deliveries http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNotFound
		switch {
		case r.URL.Path == c.path && r.Method == http.MethodPost:
			deliveries.ServeHTTP(w, r)
			return
		case r.URL.Path == c.path:
			w.Header().Set("Allow", http.MethodPost)
			status = http.StatusMethodNotAllowed
		}
		c.note("%d to %s; deliveries go to POST %s", status, oneLine(r.Method+" "+printable(r.URL.Path)), printable(c.path))
		http.Error(w, http.StatusText(status), status)
	})
}

func (c *listenCmd) rejected(r *http.Request, reason string, err error) {
	c.note("rejected from %s: %s: %s", r.RemoteAddr, reason, oneLine(err.Error()))
}

// bodyKey is the key of the verified body in a handler's context.
type bodyKey struct{}

// dispatcher shows every event. It decodes the known types like a program that
// handles them, and rejects what such a program would reject.
func (c *listenCmd) dispatcher() http.Handler {
	d := &grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler), Trace: c.trace}
	on[grantexhook.GrantCreated](d, c.show)
	on[grantexhook.GrantRevoked](d, c.show)
	on[grantexhook.TokenIssued](d, c.show)
	d.Other = func(ctx context.Context, _ grantexhook.RawEvent) error { return c.show(ctx) }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		d.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, body)))
	})
}

func on[T grantexhook.Payload](d *grantexhook.Dispatcher, show func(context.Context) error) {
	grantexhook.On(d, func(ctx context.Context, _ grantexhook.Event[T]) error { return show(ctx) })
}

// show prints the event. If it can't, the sender should try again.
func (c *listenCmd) show(ctx context.Context) error {
	body := ctx.Value(bodyKey{}).([]byte)
	if c.json {
		line := jsonLine(body)
		if isTerminal(c.stdout.w) {
			line = append(escaped(line[:len(line)-1]), '\n')
		}
		_, err := c.stdout.Write(line)
		return err
	}
	signed := "signed without a timestamp"
	if v, _ := grantexhook.VerificationFrom(ctx); !v.SentAt.IsZero() {
		signed = "signed " + when(v.SentAt)
	}
	_, err := io.WriteString(c.stdout, describe(body, signed))
	return err
}

// trace reports events that are not shown, or that were shown before.
func (c *listenCmd) trace(ctx context.Context, id, eventType string, _ time.Time) (context.Context, func(string, error)) {
	return ctx, func(outcome string, err error) {
		event := strings.TrimSpace(printable(id) + " " + printable(eventType))
		switch {
		case err != nil:
			c.note("%s: %s: %s", cmp.Or(event, "an event"), outcome, oneLine(err.Error()))
		case outcome != grantexhook.OutcomeHandled:
			c.note("%s: %s", event, outcome)
		}
	}
}
