package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/internal/sender"
)

// maxInFlight bounds the concurrent deliveries, and the memory they take.
const maxInFlight = 64

var forwardCommand = command{
	name: "forward", args: "URL", min: 1, max: 1,
	about: `Deliver the account's events to a URL that only this machine can reach.
It reads the API's event stream, signs each event with the secret as Grantex does,
and prints the response. When the stream breaks, it reconnects and reports which
events may be missing, since the stream doesn't replay them.`,
	examples: `grantexhook forward http://127.0.0.1:8080/webhooks/grantex
grantexhook forward -types grant.revoked -retry http://127.0.0.1:8080/webhooks/grantex`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := &forwardCmd{printer: printer{app: a}, inFlight: make(chan struct{}, maxInFlight)}
		fs.StringVar(&c.typeList, "types", strings.Join(eventTypes(), ","), "forward only events of these `TYPES`, separated by commas")
		retryFlag(fs, &c.to.retry)
		fs.BoolVar(&c.json, "json", false, "print each attempt as a line of JSON")
		c.secretFile = fileFlag(fs, "secret", "secret")
		c.keyFile = fileFlag(fs, "api-key", "API key")
		return c.run
	},
}

// A forwardCmd is the command forward.
type forwardCmd struct {
	printer
	typeList            string
	secretFile, keyFile *string

	types             []string
	client            *grantexapi.Client
	to                courier
	wasUp             bool // the stream, at least once
	inFlight          chan struct{}
	wg                sync.WaitGroup
	delivered, missed atomic.Int64
}

func (c *forwardCmd) run(ctx context.Context, args []string) error {
	if err := c.prepare(args[0]); err != nil {
		return err
	}
	c.note("forwarding %s to %s", printable(strings.Join(c.types, ", ")), c.to.parcel.URL)
	defer c.conclude()
	var gap *grantexapi.Interrupted
	for body, err := range c.client.Events(ctx, c.types...) {
		interrupted, again := errors.AsType[*grantexapi.Interrupted](err)
		switch {
		case err != nil && !again:
			return err
		case again && interrupted.Wait == 0:
			c.missed.Add(1)
			c.note("%s", oneLine(err.Error()))
		case again:
			gap = interrupted
			c.note("%s", oneLine(err.Error()))
		case body != nil:
			c.take(ctx, body)
		default:
			c.connected(gap)
			gap = nil
		}
	}
	return nil
}

func (c *forwardCmd) prepare(receiver string) error {
	to, err := receiverURL(receiver)
	if err != nil {
		return err
	}
	c.types = strings.FieldsFunc(c.typeList, func(r rune) bool { return r == ',' || r == ' ' })
	if len(c.types) == 0 {
		return usageError("-types names no type", "for example -types "+grantexhook.TypeGrantRevoked)
	}
	secret, err := c.secret(*c.secretFile)
	if err != nil {
		return err
	}
	c.to.parcel = sender.Parcel{URL: to, Secret: secret, Dial: c.dial}
	c.client, err = c.api(*c.keyFile)
	return err
}

// connected reports that the stream is up, and what may be missing if it had broken.
func (c *forwardCmd) connected(gap *grantexapi.Interrupted) {
	switch now := time.Now(); {
	case gap != nil:
		c.note("reconnected; events between %s and %s (%v) may be missing",
			gap.Since.UTC().Format(time.TimeOnly), now.UTC().Format(time.TimeOnly+" MST"), now.Sub(gap.Since).Round(time.Second))
	case !c.wasUp:
		c.note("connected")
	}
	c.wasUp = true
}

// take delivers an event in the background.
func (c *forwardCmd) take(ctx context.Context, body []byte) {
	var e head
	switch {
	case json.Unmarshal(body, &e) != nil || e.ID == "" || e.Type == "":
		c.note("skipped a message of %d bytes in the stream that is not an event", len(body))
		return
	case !slices.Contains(c.types, e.Type) || !c.makeRoom(ctx):
		return
	}
	c.wg.Go(func() {
		defer func() { <-c.inFlight }()
		if c.deliver(ctx, &c.to, e, body) {
			c.delivered.Add(1)
		} else {
			c.missed.Add(1)
		}
	})
}

// makeRoom waits until there is room for another delivery.
func (c *forwardCmd) makeRoom(ctx context.Context) bool {
	if len(c.inFlight) == maxInFlight {
		c.note("%d deliveries are in flight; reading the stream pauses until one ends", maxInFlight)
	}
	select {
	case c.inFlight <- struct{}{}:
		return true
	case <-ctx.Done():
		c.missed.Add(1)
		return false
	}
}

// conclude waits for the deliveries in flight.
func (c *forwardCmd) conclude() {
	if n := len(c.inFlight); n > 0 {
		c.note("%d deliveries are still in flight", n)
	}
	c.wg.Wait()
	delivered := c.delivered.Load()
	c.note("%d of %d events delivered", delivered, delivered+c.missed.Load())
}
