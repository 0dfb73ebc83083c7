package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
)

// maxUnderWay bounds the deliveries at one time, and so the memory for them.
const maxUnderWay = 64

func forwardCommand() command {
	return command{
		name: "forward",
		args: "URL",
		min:  1, max: 1,
		about: `Deliver the events of the account to a URL that only this machine can reach.
It reads the event stream of the API, signs each event with the secret as
Grantex would, and prints how it is answered. It connects again when the stream
breaks, and says what it may have missed: the stream repeats nothing.`,
		examples: `grantexhook forward http://127.0.0.1:8080/webhooks/grantex
grantexhook forward -types grant.revoked -retry http://127.0.0.1:8080/webhooks/grantex`,
		setup: func(a *app, fs *flag.FlagSet) action {
			f := &forwarder{app: a}
			fs.StringVar(&f.types, "types", strings.Join(eventTypes(), ","), "only events of these `TYPES`, separated by commas")
			retryFlag(fs, &f.retry)
			fs.BoolVar(&f.json, "json", false, "print each attempt as a line of JSON")
			f.secretFile = fileFlag(fs, "secret", "secret")
			f.keyFile = fileFlag(fs, "api-key", "API key")
			return f.run
		},
	}
}

// A forwarder is the command forward.
type forwarder struct {
	*app
	types               string
	retry               retrying
	json                bool
	secretFile, keyFile *string

	stream  *streamer
	courier *courier
	backoff backoff
	seen    time.Time // when the last whole event or comment came, or the command began
	again   bool      // whether this is not the first connection

	underWay          chan struct{}
	wg                sync.WaitGroup
	delivered, missed atomic.Int64
}

func (f *forwarder) run(ctx context.Context, args []string) error {
	if err := f.prepare(args[0]); err != nil {
		return err
	}
	f.note("forwarding %s to %s", strings.Join(f.stream.types, ", "), args[0])
	f.seen, f.underWay = time.Now(), make(chan struct{}, maxUnderWay)
	defer f.conclude()
	for {
		err := f.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait, again := temporary(err)
		if !again {
			return err
		}
		wait = max(wait, f.backoff.next())
		f.note("%s; connecting again in %v", oneLine(err.Error()), wait.Round(100*time.Millisecond))
		if !sleep(ctx, wait) {
			return nil
		}
		f.again = true
	}
}

func (f *forwarder) prepare(receiver string) error {
	to, err := receiverURL(receiver)
	if err != nil {
		return err
	}
	types := strings.FieldsFunc(f.types, func(r rune) bool { return r == ',' || r == ' ' })
	if len(types) == 0 {
		return usageError("-types names no type", "such as -types "+grantexhook.TypeGrantRevoked)
	}
	secret, err := f.secret(*f.secretFile)
	if err != nil {
		return err
	}
	client, err := f.client(*f.keyFile, nil)
	if err != nil {
		return err
	}
	f.courier = &courier{app: f.app, url: to, secret: secret, retry: f.retry, json: f.json}
	f.stream = newStreamer(*client, f.transport(), types)
	return nil
}

// transport has no timeout for the headers, which come with the first comment or
// event: the watchdog sees to that. Compressed, events could come late.
func (f *forwarder) transport() http.RoundTripper {
	dial := f.dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial, ForceAttemptHTTP2: true,
		DisableCompression: true, DisableKeepAlives: true, TLSHandshakeTimeout: 30 * time.Second}
}

// session connects once and reads until that ends, for the reason it returns.
func (f *forwarder) session(ctx context.Context) error {
	connected, end := context.WithCancelCause(ctx)
	defer end(nil)
	dog := newWatchdog(end)
	defer dog.timer.Stop()
	body, err := f.stream.open(connected)
	if err != nil {
		return f.reason(connected, err)
	}
	defer body.Close()
	dog.timer.Stop()
	dog.Reader = body
	f.connected()
	p := newParser(dog)
	for {
		frame, err := p.next()
		if err != nil {
			if p.cut() {
				f.note("the stream broke off within an event, which is lost")
			}
			return f.reason(connected, &lostError{err})
		}
		f.seen = time.Now()
		f.backoff.reset()
		if !frame.comment {
			f.take(ctx, frame)
		}
	}
}

// reason says why a connection ended with err.
func (f *forwarder) reason(connected context.Context, err error) error {
	switch {
	case context.Cause(connected) == errSilent:
		return &lostError{errSilent}
	case errors.Is(err, io.EOF):
		return &lostError{errEnded}
	}
	return err
}

func (f *forwarder) connected() {
	if !f.again {
		f.note("connected")
		return
	}
	now := time.Now()
	f.note("connected again; what happened between %s and %s (%v) may be missing",
		f.seen.UTC().Format(time.TimeOnly), now.UTC().Format(time.TimeOnly+" MST"), now.Sub(f.seen).Round(time.Second))
}

// take delivers the event in a frame if it is one that was asked for, without
// waiting for that to end.
func (f *forwarder) take(ctx context.Context, frame frame) {
	var e head
	switch {
	case frame.data == nil:
		f.missed.Add(1)
		f.note("an event of %d bytes is skipped: more than %d are not kept", frame.size, maxFrame)
		return
	case json.Unmarshal(frame.data, &e) != nil || e.ID == "" || e.Type == "":
		f.note("%d bytes in the stream are no event, and skipped", frame.size)
		return
	case !slices.Contains(f.stream.types, e.Type):
		return
	}
	if !f.wait(ctx) {
		return
	}
	f.wg.Go(func() {
		defer func() { <-f.underWay }()
		if f.courier.deliver(ctx, e, frame.data) {
			f.delivered.Add(1)
		} else {
			f.missed.Add(1)
		}
	})
}

// wait waits until there is room for another delivery.
func (f *forwarder) wait(ctx context.Context) bool {
	select {
	case f.underWay <- struct{}{}:
		return true
	default:
	}
	f.note("%d deliveries are under way; reading the stream pauses until one ends", maxUnderWay)
	select {
	case f.underWay <- struct{}{}:
		return true
	case <-ctx.Done():
		f.missed.Add(1)
		return false
	}
}

// conclude waits for what is under way.
func (f *forwarder) conclude() {
	if n := len(f.underWay); n > 0 {
		f.note("%d deliveries are still under way", n)
	}
	f.wg.Wait()
	f.note("%d events delivered, %d not", f.delivered.Load(), f.missed.Load())
}
