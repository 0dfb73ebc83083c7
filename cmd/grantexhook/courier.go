package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

// A head is what is known of an event without its data.
type head struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

var errInterrupted = errors.New("interrupted")

// A courier delivers events to one URL and tells how they are answered. It is
// safe for concurrent use.
type courier struct {
	*app
	url    *url.URL
	secret string
	legacy bool
	skew   time.Duration
	retry  retrying
	json   bool

	mu   sync.Mutex
	last sender.Attempt // that failed
}

// An attemptLine is an attempt for scripts.
type attemptLine struct {
	EventID      string  `json:"eventId"`
	EventType    string  `json:"eventType"`
	Attempt      int     `json:"attempt"`
	Delivered    bool    `json:"delivered"`
	Status       int     `json:"status,omitempty"` // left out if there was no whole answer
	Answer       string  `json:"answer,omitempty"` // a Dispatcher's outcome, such as "duplicate"
	Error        string  `json:"error,omitempty"`
	Milliseconds float64 `json:"milliseconds"`
}

// retrying is how a courier retries.
type retrying int

const (
	retryNever retrying = iota
	retryAsMeasured
	retrySoonest // as early as Grantex can
)

func (r retrying) gaps() string {
	if r == retrySoonest {
		return "30, 60, 120 and 240"
	}
	return "60, 90, 150 and 270"
}

func retryFlag(fs *flag.FlagSet, r *retrying) {
	const usage = `retry like Grantex: up to five attempts, 60, 90, 150 and 270 s apart;
-retry=soonest: 30, 60, 120 and 240 s apart, as early as Grantex can`
	fs.BoolFunc("retry", usage, func(value string) error {
		how, ok := map[string]retrying{"true": retryAsMeasured, "soonest": retrySoonest, "false": retryNever}[value]
		if !ok {
			return errors.New("use -retry or -retry=soonest")
		}
		*r = how
		return nil
	})
}

// deliver reports whether the event was delivered.
func (c *courier) deliver(ctx context.Context, e head, body []byte) bool {
	d := &sender.Parcel{URL: c.url, Secret: c.secret, Body: body, Legacy: c.legacy, Skew: c.skew, Soonest: c.retry == retrySoonest, Dial: c.dial}
	n := 0
	for a := range d.Attempts(ctx) {
		n++
		if a.Err != nil && ctx.Err() != nil {
			a.Err = errInterrupted
		}
		c.tell(e, n, a)
		switch {
		case a.Delivered():
			return true
		case c.retry == retryNever || a.Crashes() || n == sender.MaxAttempts:
			return false
		case n == 1 && ctx.Err() == nil:
			c.note("retrying %s; attempts are %s s apart", printable(e.ID), c.retry.gaps())
		}
	}
	return false
}

func (c *courier) tell(e head, n int, a sender.Attempt) {
	if !a.Delivered() {
		c.mu.Lock()
		c.last = a
		c.mu.Unlock()
	}
	if c.json {
		writeJSON(c.stdout, line(e, n, a))
	} else {
		fmt.Fprintf(c.stdout, "%s  %s  attempt %d  %s  %v\n", printable(e.ID), printable(e.Type), n, answer(a), a.Took.Round(100*time.Microsecond))
	}
	if a.Crashes() {
		c.note("WARNING: an answer of %d crashes the sender of Grantex, again and again: never answer 204, 205 or 304", a.Status)
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
		return "no answer: " + oneLine(a.Err.Error())
	case word(a) != "":
		return fmt.Sprintf("%d %s", a.Status, word(a))
	case a.Delivered():
		return fmt.Sprintf("%d delivered", a.Status)
	}
	return fmt.Sprintf("%d not delivered", a.Status)
}

// word returns the response's body if it's one word, such as "handled".
func word(a sender.Attempt) string {
	text := strings.TrimSpace(a.Excerpt)
	if len(text) > 32 || strings.ContainsFunc(text, func(r rune) bool { return r != '_' && (r < 'A' || r > 'z' || r > 'Z' && r < 'a') }) {
		return ""
	}
	return text
}

// hint says what to do about the last attempt that failed.
func (c *courier) hint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch a := c.last; {
	case a.Crashes():
		return "answer 200, with a short body"
	case a.Err == errInterrupted:
		return ""
	case isDial(a.Err):
		return "is the receiver running? grantexhook listen is one"
	case errors.Is(a.Err, context.DeadlineExceeded):
		return "Grantex waits ten seconds for the whole answer"
	case a.Status == http.StatusUnauthorized:
		return "does the receiver have the same secret, and the right time?"
	case a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed:
		return "is the path right?"
	case a.Status >= 300 && a.Status < 400:
		return "Grantex follows no redirect: is the URL right, to the slash at its end?"
	}
	return "the log of the receiver says more"
}

func isDial(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}
