package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// maxInput bounds what is read from a file or from standard input. The largest
// body that Grantex can make has a sixth of it.
const maxInput = 1 << 20

func sendCommand() command {
	return command{
		name: "send",
		args: "TYPE URL",
		min:  2, max: 2,
		about: `Send a signed event as Grantex would, and print how it is answered.
Without -data it is a sample of one of the types grant.created, grant.revoked
and token.issued. It fails unless every event is delivered.`,
		examples: `grantexhook send grant.created http://127.0.0.1:8080/webhooks/grantex
grantexhook send -retry token.issued http://127.0.0.1:8080/webhooks/grantex
grantexhook send -at -10m grant.revoked http://127.0.0.1:8080/webhooks/grantex  # too old to be accepted
echo '{"grantId":"grnt_1","cascade":true}' | grantexhook send -data - grant.revoked http://127.0.0.1:8080/webhooks/grantex`,
		setup: func(a *app, fs *flag.FlagSet) action {
			s := &sending{app: a}
			fs.StringVar(&s.data, "data", "", "take the data of the event, a JSON object, from `FILE`; - is standard input")
			fs.IntVar(&s.count, "count", 1, "send `N` events, one after the other")
			fs.BoolVar(&s.legacy, "legacy", false, "sign like senders older than 2026-08-13, without a timestamp")
			fs.StringVar(&s.at, "at", "", "sign as if it were `TIME`: RFC 3339, Unix seconds, or from now, such as -10m")
			fs.StringVar(&s.id, "id", "", "send one event with this `ID`, again and again with -count")
			retryFlag(fs, &s.retry)
			fs.BoolVar(&s.json, "json", false, "print each attempt as a line of JSON")
			s.secretFile = fileFlag(fs, "secret", "secret")
			return s.run
		},
	}
}

// A sending is the command send.
type sending struct {
	*app
	data, at, id string
	count        int
	legacy, json bool
	retry        retrying
	secretFile   *string
}

func (s *sending) run(ctx context.Context, args []string) error {
	skew, err := s.skew()
	if err != nil {
		return err
	}
	to, err := receiverURL(args[1])
	if err != nil {
		return err
	}
	if s.count < 1 {
		return usageError("-count must be at least 1", "grantexhook help send")
	}
	payload, err := s.payload(args[0])
	if err != nil {
		return err
	}
	secret, err := s.secret(*s.secretFile)
	if err != nil {
		return err
	}
	c := &courier{app: s.app, url: to, secret: secret, legacy: s.legacy, skew: skew, retry: s.retry, json: s.json}
	return s.sendAll(ctx, c, args[0], payload)
}

func (s *sending) sendAll(ctx context.Context, c *courier, eventType string, payload func(time.Time) any) error {
	delivered := 0
	var e head
	var body []byte
	for i := range s.count {
		if i == 0 || s.id == "" { // one id is one event, sent again
			var err error
			if e, body, err = s.event(eventType, payload, time.Now().Add(c.skew)); err != nil {
				return &failure{err, "-data takes one JSON object", exitUsage}
			}
		}
		if c.deliver(ctx, e, body) {
			delivered++
		}
		if ctx.Err() != nil {
			break
		}
	}
	if delivered < s.count {
		return failed(fmt.Errorf("%d of %d events delivered", delivered, s.count), c.hint())
	}
	return nil
}

func (s *sending) event(eventType string, payload func(time.Time) any, at time.Time) (head, []byte, error) {
	e := sender.NewEvent(eventType, payload(at))
	e.ID, e.CreatedAt = s.id, at
	if e.ID == "" {
		e.ID = sender.NewID("evt_", at)
	}
	body, err := sender.Body(e)
	return head{e.ID, e.Type}, body, err
}

// skew returns how far the clock that signs is ahead.
func (s *sending) skew() (time.Duration, error) {
	switch {
	case s.at == "":
		return 0, nil
	case s.legacy:
		return 0, usageError("-at and -legacy exclude each other: the legacy signature has no time", "grantexhook help send")
	}
	now := time.Now()
	at, err := parseTime(s.at, now)
	return at.Sub(now), err
}

// payload returns what makes the data of an event.
func (s *sending) payload(eventType string) (func(time.Time) any, error) {
	if s.data == "" {
		return sample(eventType)
	}
	if eventType == "" {
		return nil, usageError("the type is empty", "grantexhook help send")
	}
	text, err := s.read(s.data)
	if err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, usageError("the data is not JSON", "-data takes one JSON object")
	}
	return func(time.Time) any { return json.RawMessage(text) }, nil
}

// read returns the content of a file, or of standard input.
func (a *app) read(file string) ([]byte, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usageError(err.Error(), "")
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	switch {
	case err != nil:
		return nil, failed(err, "")
	case len(text) > maxInput:
		return nil, usageError(fmt.Sprintf("the input is larger than %d bytes", maxInput), "")
	}
	return text, nil
}

func receiverURL(text string) (*url.URL, error) {
	u, err := sender.ParseURL(text)
	if err != nil {
		return nil, &failure{err, "such as http://" + defaultAddr + defaultPath, exitUsage}
	}
	return u, nil
}

// sample returns what makes the data of a sample event.
func sample(eventType string) (func(time.Time) any, error) {
	switch eventType {
	case grantexhook.TypeGrantCreated:
		return func(at time.Time) any {
			return grantexhook.GrantCreated{GrantID: sender.NewID("grnt_", at), AgentID: sender.NewID("ag_", at), PrincipalID: "user_sample",
				Scopes: []string{"calendar:read", "email:send"}, ExpiresAt: at.Add(24 * time.Hour)}
		}, nil
	case grantexhook.TypeGrantRevoked:
		return func(at time.Time) any { return grantexhook.GrantRevoked{GrantID: sender.NewID("grnt_", at)} }, nil
	case grantexhook.TypeTokenIssued:
		return func(at time.Time) any {
			return grantexhook.TokenIssued{TokenID: sender.NewID("tok_", at), GrantID: sender.NewID("grnt_", at), AgentID: sender.NewID("ag_", at), PrincipalID: "user_sample",
				Scopes: []string{"calendar:read"}, ExpiresAt: at.Add(time.Hour)}
		}, nil
	}
	return nil, usageError(fmt.Sprintf("there is no sample of %q", eventType), "samples are "+strings.Join(eventTypes(), ", ")+"; any other type needs -data FILE")
}
