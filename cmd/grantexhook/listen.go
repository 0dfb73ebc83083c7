package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"grantex.dev/grantexhook"
)

const (
	defaultAddr = "127.0.0.1:8080"
	defaultPath = "/webhooks/grantex"

	// stopTimeout is for the deliveries that are being handled.
	stopTimeout = 10 * time.Second
)

func listenCommand() command {
	return command{
		name: "listen",
		about: `Receive deliveries, verify them and print each event.
Without a secret it makes one and says how to send to it. What it refuses, and
events that come again, are told on standard error.`,
		examples: `grantexhook listen
GRANTEX_WEBHOOK_SECRET_FILE=secret.txt grantexhook listen -addr 127.0.0.1:9000
grantexhook listen -json | jq .data.grantId`,
		setup: func(a *app, fs *flag.FlagSet) action {
			l := &listener{app: a}
			fs.StringVar(&l.addr, "addr", defaultAddr, "listen on `HOST:PORT`")
			fs.StringVar(&l.path, "path", defaultPath, "take deliveries at `PATH`")
			fs.BoolVar(&l.json, "json", false, "print the body of each event on a line of its own")
			l.secretFile = fileFlag(fs, "secret", "secret")
			return l.run
		},
	}
}

// A listener is the command listen.
type listener struct {
	*app
	addr, path string
	json       bool
	secretFile *string
}

func (l *listener) run(ctx context.Context, _ []string) error {
	if !strings.HasPrefix(l.path, "/") || strings.ContainsAny(l.path, "?#") {
		return usageError("the path must begin with / and have neither ? nor #", "grantexhook listen -path "+defaultPath)
	}
	secret, made, err := l.secretOrNew()
	if err != nil {
		return err
	}
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{Refused: l.refused, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	socket, err := listenOn(l.addr)
	if err != nil {
		return failed(err, "grantexhook listen -addr 127.0.0.1:0 takes any free port")
	}
	l.introduce(socket.Addr(), secret, made)
	return l.serve(ctx, socket, v.Middleware(l.dispatcher()))
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

func (l *listener) secretOrNew() (secret string, made bool, err error) {
	secret, err = l.setting("secret", *l.secretFile)
	if err != nil || secret == "" {
		return newSecret(), true, err
	}
	secret, err = l.secret(*l.secretFile)
	return secret, false, err
}

// newSecret makes one such as Grantex makes.
func newSecret() string {
	random := make([]byte, 24)
	rand.Read(random)
	return hex.EncodeToString(random)
}

func (l *listener) introduce(addr net.Addr, secret string, made bool) {
	url := "http://" + addr.String() + l.path
	l.note("listening on %s", url)
	l.note("send to it from another terminal:")
	if made {
		l.note("  export GRANTEX_WEBHOOK_SECRET=%s  # made for this run, since none was set", secret)
	}
	l.note("  grantexhook send %s %s", grantexhook.TypeGrantCreated, url)
}

// serve answers until ctx ends, and lets the deliveries finish that are under
// way.
func (l *listener) serve(ctx context.Context, socket net.Listener, deliveries http.Handler) error {
	s := &http.Server{
		Handler:           l.route(deliveries),
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

// route says what came to the wrong place, which no other server would tell.
func (l *listener) route(deliveries http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNotFound
		switch {
		case r.URL.Path == l.path && r.Method == http.MethodPost:
			deliveries.ServeHTTP(w, r)
			return
		case r.URL.Path == l.path:
			w.Header().Set("Allow", http.MethodPost)
			status = http.StatusMethodNotAllowed
		}
		l.note("%d to %s %s; deliveries are taken at POST %s", status, printable(r.Method), printable(r.URL.Path), l.path)
		http.Error(w, http.StatusText(status), status)
	})
}

func (l *listener) refused(r *http.Request, reason string, err error) {
	l.note("refused from %s: %s: %s", r.RemoteAddr, reason, oneLine(err.Error()))
}

// bodyKey is that of the verified body in the context of a handler.
type bodyKey struct{}

// dispatcher shows every event. The known types are decoded as in a program that
// handles them, so that what does not fit is refused here too.
func (l *listener) dispatcher() http.Handler {
	d := &grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler), Trace: l.trace}
	on[grantexhook.GrantCreated](d, l.show)
	on[grantexhook.GrantRevoked](d, l.show)
	on[grantexhook.TokenIssued](d, l.show)
	d.Other = func(ctx context.Context, _ grantexhook.RawEvent) error { return l.show(ctx) }
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

// show prints the event. If it could not, the sender should try again.
func (l *listener) show(ctx context.Context) error {
	body := ctx.Value(bodyKey{}).([]byte)
	if l.json {
		_, err := l.stdout.Write(jsonLine(body))
		return err
	}
	signed := "signed without a timestamp"
	if v, _ := grantexhook.VerificationFrom(ctx); !v.SentAt.IsZero() {
		signed = "signed " + v.SentAt.UTC().Format(time.RFC3339)
	}
	_, err := io.WriteString(l.stdout, describe(body, signed))
	return err
}

// trace tells of the events that are not shown, or not for the first time.
func (l *listener) trace(ctx context.Context, id, eventType string, _ time.Time) (context.Context, func(string, error)) {
	return ctx, func(outcome string, err error) {
		switch {
		case err != nil:
			l.note("%s %s: %s: %s", printable(id), printable(eventType), outcome, oneLine(err.Error()))
		case outcome != grantexhook.OutcomeHandled:
			l.note("%s %s: %s", printable(id), printable(eventType), outcome)
		}
	}
}
