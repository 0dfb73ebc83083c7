package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/diagnose"
)

var verifyCommand = command{
	name: "verify",
	about: `Check a delivery's signature, and find the mistake if it doesn't match.
The raw body is read from standard input, and the headers from flags. With
-request, both are read from an HTTP/1.1 request that was saved as it was sent:
by nc -l in the receiver's place, by a proxy that logs raw requests (mitmproxy,
ngrok), or by a handler with httputil.DumpRequest. Headers copied from curl -v
work too, with the body after an empty line. Neither the secret nor the correct
signature is ever printed.`,
	examples: `grantexhook verify -signature-v2 sha256=… -timestamp 1795434598 < body.json
grantexhook verify -request saved.http -now 2026-11-23T11:50:00Z
nc -l 8080 | tee saved.http; grantexhook verify -any-time -request saved.http`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := &verifyCmd{app: a, header: http.Header{}}
		headerFlag(fs, c.header, "signature", grantexhook.HeaderSignature)
		headerFlag(fs, c.header, "signature-v2", grantexhook.HeaderSignatureV2)
		headerFlag(fs, c.header, "timestamp", grantexhook.HeaderTimestamp)
		fs.StringVar(&c.request, "request", "", "read the headers and the body from `FILE`, a saved request; - is standard input")
		fs.StringVar(&c.now, "now", "", "verify as if it were `TIME`: RFC 3339, Unix seconds, or an offset from now such as -10m")
		fs.BoolVar(&c.anyTime, "any-time", false, "accept any timestamp, for old recordings")
		fs.BoolVar(&c.json, "json", false, "print the result as JSON")
		c.secretFile = fileFlag(fs, "secret", "secret")
		return c.run
	},
}

// A verifyCmd is the command verify.
type verifyCmd struct {
	*app
	header        http.Header // from the flags
	request, now  string
	anyTime, json bool
	secretFile    *string
}

// headerFlag defines a flag for one header of the delivery. White space around a value
// doesn't belong to it (RFC 9110, section 5.5).
func headerFlag(fs *flag.FlagSet, header http.Header, name, key string) {
	fs.Func(name, "the `VALUE` of "+key, func(value string) error {
		header.Add(key, strings.TrimSpace(value))
		return nil
	})
}

// A verdict is the result of the command verify.
type verdict struct {
	Right      bool     `json:"right"`
	Reason     string   `json:"reason,omitempty"`     // one of the Reason constants of the library
	Header     string   `json:"header,omitempty"`     // the name of the header that decides
	SentAt     string   `json:"sentAt,omitempty"`     // RFC 3339
	AgeSeconds *int64   `json:"ageSeconds,omitempty"` // negative if it's in the future
	Why        string   `json:"why,omitempty"`
	Mistakes   []string `json:"mistakes,omitempty"` // together they explain a wrong signature
	Hint       string   `json:"hint,omitempty"`
}

func (c *verifyCmd) run(context.Context, []string) error {
	now, err := c.clock()
	if err != nil {
		return err
	}
	header, body, err := c.delivery()
	if err != nil {
		return err
	}
	secret, err := c.anySecret(*c.secretFile)
	if err != nil {
		return err
	}
	result := c.judge(header, body, secret, now)
	if c.json {
		writeJSON(c.stdout, result)
	} else {
		result.print(c.stdout)
	}
	if !result.Right {
		return errVerdict
	}
	return nil
}

func (c *verifyCmd) clock() (time.Time, error) {
	if c.now != "" && c.anyTime {
		return time.Time{}, usageError("-now and -any-time are mutually exclusive", "grantexhook help verify")
	}
	return parseTime(cmp.Or(c.now, "0s"), time.Now())
}

// delivery reads the delivery to verify.
func (c *verifyCmd) delivery() (http.Header, []byte, error) {
	if c.request == "" {
		body, err := c.read("-")
		return c.header, body, err
	}
	if len(c.header) > 0 {
		return nil, nil, usageError("-request and the header flags are mutually exclusive", "grantexhook help verify")
	}
	text, err := c.read(c.request)
	if err != nil {
		return nil, nil, err
	}
	header, body, err := diagnose.ParseRequest(text)
	switch {
	case errors.Is(err, diagnose.ErrIncomplete):
		return nil, nil, failed(fmt.Errorf("the request is %w", err), "was the whole request saved?")
	case err != nil:
		return nil, nil, usageError("this is not a saved HTTP/1.1 request: "+err.Error(),
			"a body alone goes to standard input, and its headers to -signature-v2 and -timestamp")
	}
	return header, body, nil
}

// judge leaves the decision to the library, except about the age, since now may be
// another time.
func (c *verifyCmd) judge(header http.Header, body []byte, secret string, now time.Time) verdict {
	var result verdict
	sentAt, err := strconv.ParseUint(header.Get(grantexhook.HeaderTimestamp), 10, 63)
	if header.Get(grantexhook.HeaderSignatureV2) != "" {
		result.Header = grantexhook.HeaderSignatureV2
		if err == nil && sentAt <= diagnose.MaxSeconds {
			at := int64(sentAt)
			age := now.Unix() - at
			result.AgeSeconds, result.SentAt = &age, when(time.Unix(at, 0))
		}
	} else if header.Get(grantexhook.HeaderSignature) != "" {
		result.Header = grantexhook.HeaderSignature
	}
	switch err := check(header, body, secret); {
	case errors.Is(err, grantexhook.ErrNoSignature):
		result.Reason, result.Why = grantexhook.ReasonNoSignature, "there is no signature header"
		result.Hint = "was it sent by Grantex? a proxy may have dropped the headers"
	case err != nil:
		result.explain(err, header, body, secret)
	case result.AgeSeconds != nil && !c.anyTime && max(*result.AgeSeconds, -*result.AgeSeconds) > int64(grantexhook.DefaultTolerance/time.Second):
		result.stale(now)
	default:
		result.Right = true
	}
	return result
}

// check verifies a delivery of any age.
func check(header http.Header, body []byte, secret string) error {
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{Tolerance: math.MaxInt64})
	if err != nil {
		return err
	}
	return v.Verify(header, body)
}

func (r *verdict) stale(now time.Time) {
	age, where := *r.AgeSeconds, "before"
	r.Hint = "is it a replay, or is the receiver's clock fast? for an old recording use -now TIME or -any-time"
	if age < 0 {
		age, where = -age, "after"
		r.Hint = "is the receiver's clock slow? -now TIME verifies at another time"
	}
	r.Reason = grantexhook.ReasonStale
	r.Why = fmt.Sprintf("the signature matches, but it was made %s %s %s; the tolerance is %v",
		seconds(age), where, when(now), grantexhook.DefaultTolerance)
}

// explain names the mistakes that make the signature wrong.
func (r *verdict) explain(err error, header http.Header, body []byte, secret string) {
	r.Reason = grantexhook.ReasonBadSignature
	found := diagnose.Explain(header, body, secret)
	switch {
	case len(found) > 0:
		for _, m := range found {
			r.Mistakes = append(r.Mistakes, m.Text)
		}
		r.Why, r.Hint = strings.Join(r.Mistakes, "; and "), mistakeHints[found[0].Kind]
	case !errors.Is(err, grantexhook.ErrBadSignature) && !errors.Is(err, grantexhook.ErrStale):
		r.Why, r.Hint = oneLine(err.Error()), secretHint
	case len(bytes.TrimSpace(body)) == 0:
		r.Why, r.Hint = "the body is empty", "the body is what was sent after the headers; was it read before it was saved?"
	case r.Header == grantexhook.HeaderSignatureV2 && r.SentAt == "":
		r.Why, r.Hint = oneLine(err.Error()), grantexhook.HeaderTimestamp+" holds whole Unix seconds: verify it as it was sent"
	default:
		r.Why = oneLine(err.Error())
		r.Hint = "no usual mistake explains it: the secret may be another endpoint's, or the body is not byte for byte what was sent"
	}
}

func (r *verdict) print(w io.Writer) {
	switch {
	case !r.Right:
		fmt.Fprintf(w, "wrong: %s\nhint: %s\n", r.Why, r.Hint)
	case r.AgeSeconds == nil:
		fmt.Fprintf(w, "right: %s matches; it has no timestamp, so it can be replayed forever\n", r.Header)
	default:
		fmt.Fprintf(w, "right: %s matches; signed %s\n", r.Header, r.SentAt)
	}
}
