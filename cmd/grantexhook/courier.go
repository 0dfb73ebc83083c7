package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

var errInterrupted = errors.New("interrupted")

// A courier delivers events to one receiver.
type courier struct {
	parcel sender.Parcel // without a body
	retry  string        // see gaps
}

// gaps are the seconds between attempts, by the value of -retry. Grantex was measured
// at the first, and can be as early as the second.
var gaps = map[string]string{"true": "60, 90, 150 and 270", "soonest": "30, 60, 120 and 240"}

// retryFlag defines a flag whose value is "" or a key of gaps.
func retryFlag(fs *flag.FlagSet, retry *string) {
	const usage = `retry like Grantex: up to five attempts, 60, 90, 150 and 270 s apart;
-retry=soonest: 30, 60, 120 and 240 s apart, as early as Grantex can`
	fs.BoolFunc("retry", usage, func(value string) error {
		if value == "false" {
			value = ""
		} else if gaps[value] == "" {
			return errors.New("use -retry or -retry=soonest")
		}
		*retry = value
		return nil
	})
}

// A printer prints attempts. It is safe for concurrent use.
type printer struct {
	*app
	json bool

	mu   sync.Mutex
	last sender.Attempt // that failed
}

// An attemptLine is an attempt for scripts.
type attemptLine struct {
	EventID      string  `json:"eventId"`
	EventType    string  `json:"eventType"`
	Attempt      int     `json:"attempt"`
	Delivered    bool    `json:"delivered"`
	Status       int     `json:"status,omitempty"` // left out if no complete response arrived
	Answer       string  `json:"answer,omitempty"` // see word
	Error        string  `json:"error,omitempty"`
	Milliseconds float64 `json:"milliseconds"`
}

// deliver prints the attempts to deliver an event, and reports whether it was
// delivered. It ends when an attempt succeeds, when no more are due, or when ctx ends.
func (p *printer) deliver(ctx context.Context, c *courier, e head, body []byte) (delivered bool) {
	parcel := c.parcel
	parcel.Body, parcel.Soonest = body, c.retry == "soonest"
	n := 0
	for a := range parcel.Attempts(ctx) {
		if a.Err != nil && ctx.Err() != nil {
			a.Err = errInterrupted
		}
		n++
		p.print(e, n, a)
		delivered = a.Delivered()
		if c.retry == "" {
			break
		}
		if n == 1 && !delivered && !a.Crashes() && ctx.Err() == nil {
			p.note("retrying %s; attempts are %s s apart", printable(e.ID), gaps[c.retry])
		}
	}
	return delivered
}

func (p *printer) print(e head, n int, a sender.Attempt) {
	if !a.Delivered() {
		p.mu.Lock()
		p.last = a
		p.mu.Unlock()
	}
	if p.json {
		writeJSON(p.stdout, line(e, n, a))
	} else {
		fmt.Fprintf(p.stdout, "%s  %s  attempt %d  %s  %v\n", printable(e.ID), printable(e.Type), n, answer(a), a.Took.Round(100*time.Microsecond))
	}
	if a.Crashes() {
		p.note("WARNING: a %d response crashes Grantex's sender, on every retry too: never respond with 204, 205 or 304", a.Status)
	}
}

func line(e head, n int, a sender.Attempt) attemptLine {
	l := attemptLine{EventID: e.ID, EventType: e.Type, Attempt: n, Delivered: a.Delivered(), Status: a.Status, Answer: word(a),
		Milliseconds: float64(a.Took.Microseconds()) / 1000}
	if a.Err != nil {
		l.Error = oneLine(a.Err.Error())
	}
	return l
}

func answer(a sender.Attempt) string {
	switch {
	case a.Err != nil:
		return "no response: " + oneLine(a.Err.Error())
	case word(a) != "":
		return fmt.Sprintf("%d %s", a.Status, word(a))
	case a.Delivered():
		return fmt.Sprintf("%d delivered", a.Status)
	}
	return fmt.Sprintf("%d not delivered", a.Status)
}

// word returns the response's body if it's a word, for example a Dispatcher's
// "handled" or "duplicate".
func word(a sender.Attempt) string {
	const letters = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	text := strings.TrimSpace(a.Excerpt)
	if len(text) > 32 || strings.Trim(text, letters) != "" {
		return ""
	}
	return text
}
