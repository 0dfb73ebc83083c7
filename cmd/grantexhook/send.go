package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

var sendCommand = command{
	name: "send", args: "TYPE URL", min: 2, max: 2,
	about: `Send a signed event as Grantex does, and print the response.
Without -data it's a sample, available for the types grant.created,
grant.revoked and token.issued. The command fails unless every event is
delivered.`,
	examples: `grantexhook send grant.created http://127.0.0.1:8080/webhooks/grantex
grantexhook send -retry token.issued http://127.0.0.1:8080/webhooks/grantex
grantexhook send -at -10m grant.revoked http://127.0.0.1:8080/webhooks/grantex  # too old to be accepted
echo '{"grantId":"grnt_1","cascade":true}' | grantexhook send -data - grant.revoked http://127.0.0.1:8080/webhooks/grantex`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := &sendCmd{app: a}
		fs.StringVar(&c.data, "data", "", "read the event's data, a JSON object, from `FILE`; - is standard input")
		fs.IntVar(&c.count, "count", 1, "send `N` events, one after the other")
		fs.BoolVar(&c.legacy, "legacy", false, "sign like Grantex before 2026-08-13, without a timestamp")
		fs.StringVar(&c.at, "at", "", "sign as if it were `TIME`: RFC 3339, Unix seconds, or an offset from now such as -10m")
		fs.StringVar(&c.id, "id", "", "give the event this `ID`; with -count, send the same event each time")
		retryFlag(fs, &c.retry)
		fs.BoolVar(&c.json, "json", false, "print each attempt as a line of JSON")
		c.secretFile = fileFlag(fs, "secret", "secret")
		return c.run
	},
}

// A sendCmd is the command send.
type sendCmd struct {
	*app
	data, at, id, retry string
	count               int
	legacy, json        bool
	secretFile          *string
}

func (c *sendCmd) run(ctx context.Context, args []string) error {
	skew, err := c.skew()
	if err != nil {
		return err
	}
	to, err := receiverURL(args[1])
	if err != nil {
		return err
	}
	if c.count < 1 {
		return usageError("-count must be at least 1", "grantexhook help send")
	}
	payload, err := c.payload(args[0])
	if err != nil {
		return err
	}
	secret, err := c.secret(*c.secretFile)
	if err != nil {
		return err
	}
	parcel := sender.Parcel{URL: to, Secret: secret, Legacy: c.legacy, Skew: skew, Dial: c.dial}
	return c.sendAll(ctx, &courier{parcel, c.retry}, args[0], payload)
}

func (c *sendCmd) sendAll(ctx context.Context, to *courier, eventType string, payload func(time.Time) any) error {
	p := &printer{app: c.app, json: c.json}
	delivered := 0
	var e head
	var body []byte
	for i := range c.count {
		if i == 0 || c.id == "" { // an -id is one event, sent again
			var err error
			if e, body, err = c.event(eventType, payload, time.Now().Add(to.parcel.Skew)); err != nil {
				return &failure{err, "-data takes one JSON object", exitUsage}
			}
		}
		if p.deliver(ctx, to, e, body) {
			delivered++
		}
		if ctx.Err() != nil {
			break
		}
	}
	if delivered < c.count {
		return failed(fmt.Errorf("%d of %d events delivered", delivered, c.count), to.hint(p.last))
	}
	return nil
}

func (c *sendCmd) event(eventType string, payload func(time.Time) any, at time.Time) (head, []byte, error) {
	e := sender.NewEvent(eventType, payload(at))
	e.ID, e.CreatedAt = cmp.Or(c.id, sender.NewID("evt_", at)), at
	body, err := sender.Body(e)
	return head{e.ID, e.Type}, body, err
}

// skew returns how far the signing clock is ahead.
func (c *sendCmd) skew() (time.Duration, error) {
	if c.at != "" && c.legacy {
		return 0, usageError("-at and -legacy are mutually exclusive: the legacy signature has no timestamp", "grantexhook help send")
	}
	now := time.Now()
	at, err := parseTime(cmp.Or(c.at, "0s"), now)
	return at.Sub(now), err
}

// payload returns a function that makes the data of an event.
func (c *sendCmd) payload(eventType string) (func(time.Time) any, error) {
	sample, ok := samples[eventType]
	switch {
	case c.data == "" && ok:
		return sample, nil
	case c.data == "":
		return nil, usageError(fmt.Sprintf("there is no sample event of type %q", eventType),
			"samples exist for "+strings.Join(eventTypes(), ", ")+"; any other type needs -data FILE")
	case eventType == "":
		return nil, usageError("the type is empty", "grantexhook help send")
	}
	text, err := c.read(c.data)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if !json.Valid(text) {
		return nil, usageError("the data is not JSON", "-data takes one JSON object")
	}
	return func(time.Time) any { return json.RawMessage(text) }, nil
}

func receiverURL(text string) (*url.URL, error) {
	u, err := sender.ParseURL(text)
	if err != nil {
		return nil, &failure{err, "for example http://" + defaultAddr + defaultPath, exitUsage}
	}
	return u, nil
}
