package main

import (
	"bytes"
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
)

func verifyCommand() command {
	return command{
		name: "verify",
		about: `Say whether a delivery is signed right, and if it is not, which mistake explains it.
It takes the raw body from standard input and the headers from flags, or a whole
request as a proxy or nc has saved it. Neither the secret nor the right signature
is ever printed.`,
		examples: `grantexhook verify -signature-v2 sha256=… -timestamp 1795434598 < body.json
grantexhook verify -request saved.http -now 2026-11-23T11:50:00Z
nc -l 8080 | tee saved.http; grantexhook verify -any-time -request saved.http`,
		setup: func(a *app, fs *flag.FlagSet) action {
			v := &verifying{app: a}
			fs.Var(v.header(grantexhook.HeaderSignature), "signature", "the `VALUE` of "+grantexhook.HeaderSignature)
			fs.Var(v.header(grantexhook.HeaderSignatureV2), "signature-v2", "the `VALUE` of "+grantexhook.HeaderSignatureV2)
			fs.Var(v.header(grantexhook.HeaderTimestamp), "timestamp", "the `VALUE` of "+grantexhook.HeaderTimestamp)
			fs.StringVar(&v.request, "request", "", "take headers and body from `FILE`, a saved HTTP/1.1 request; - is standard input")
			fs.StringVar(&v.now, "now", "", "verify as if it were `TIME`: RFC 3339, Unix seconds, or from now, such as -10m")
			fs.BoolVar(&v.anyTime, "any-time", false, "accept any timestamp, for old recordings")
			fs.BoolVar(&v.json, "json", false, "print the result as JSON")
			v.secretFile = fileFlag(fs, "secret", "secret")
			return v.run
		},
	}
}

// A verifying is the command verify.
type verifying struct {
	*app
	headers       http.Header // from the flags
	request, now  string
	anyTime, json bool
	secretFile    *string
}

// A headerFlag is a flag that is a header of the delivery.
type headerFlag struct {
	headers *http.Header
	name    string
}

func (v *verifying) header(name string) headerFlag { return headerFlag{&v.headers, name} }

// String implements [flag.Value].
func (headerFlag) String() string { return "" }

// Set implements [flag.Value]. White space around the value is no part of it
// (RFC 9110, section 5.5).
func (f headerFlag) Set(value string) error {
	if *f.headers == nil {
		*f.headers = http.Header{}
	}
	f.headers.Add(f.name, strings.TrimSpace(value))
	return nil
}

// A verdict is the result of the command verify.
type verdict struct {
	Right      bool     `json:"right"`
	Reason     string   `json:"reason,omitempty"`     // one of the Reason constants of the library
	Header     string   `json:"header,omitempty"`     // which decides
	SentAt     string   `json:"sentAt,omitempty"`     // RFC 3339
	AgeSeconds *int64   `json:"ageSeconds,omitempty"` // by the clock, negative if it is behind
	Why        string   `json:"why,omitempty"`
	Mistakes   []string `json:"mistakes,omitempty"` // which together explain a wrong signature
	Hint       string   `json:"hint,omitempty"`
}

func (v *verifying) run(context.Context, []string) error {
	now, err := v.clock()
	if err != nil {
		return err
	}
	d, err := v.delivery()
	if err != nil {
		return err
	}
	secret, err := v.setting("secret", *v.secretFile)
	if err == nil && secret == "" {
		secret, err = v.secret("") // says what is missing
	}
	if err != nil {
		return err
	}
	result := v.judge(d, secret, now)
	if v.json {
		writeJSON(v.stdout, result)
	} else {
		result.print(v.stdout)
	}
	if !result.Right {
		return errVerdict
	}
	return nil
}

func (v *verifying) clock() (time.Time, error) {
	if v.now != "" && v.anyTime {
		return time.Time{}, usageError("-now and -any-time exclude each other", "grantexhook help verify")
	}
	if v.now == "" {
		return time.Now(), nil
	}
	return parseTime(v.now, time.Now())
}

// delivery reads what is to be verified.
func (v *verifying) delivery() (saved, error) {
	if v.request == "" {
		body, err := v.read("-")
		return saved{v.headers, body}, err
	}
	if len(v.headers) > 0 {
		return saved{}, usageError("-request brings the headers: it excludes the flags for them", "grantexhook help verify")
	}
	text, err := v.read(v.request)
	if err != nil {
		return saved{}, err
	}
	return parseRequest(text)
}

// judge leaves the decision to the library, but for the time: that may be
// another than now.
func (v *verifying) judge(d saved, secret string, now time.Time) verdict {
	var result verdict
	timestamp := d.headers.Get(grantexhook.HeaderTimestamp)
	sentAt, isTime := seconds64(timestamp)
	if d.headers.Get(grantexhook.HeaderSignatureV2) != "" {
		result.Header = grantexhook.HeaderSignatureV2
		if isTime && sentAt <= maxSeconds {
			age := now.Unix() - sentAt
			result.AgeSeconds, result.SentAt = &age, time.Unix(sentAt, 0).UTC().Format(time.RFC3339)
		}
	} else if d.headers.Get(grantexhook.HeaderSignature) != "" {
		result.Header = grantexhook.HeaderSignature
	}
	switch err := check(d, secret); {
	case errors.Is(err, grantexhook.ErrNoSignature):
		result.Reason, result.Why = grantexhook.ReasonNoSignature, "none of the signature headers is there"
		result.Hint = "was it sent by Grantex? a proxy may have dropped the headers"
	case err != nil:
		result.explain(err, d, secret)
	case result.AgeSeconds != nil && !v.anyTime && outside(*result.AgeSeconds):
		result.stale(now)
	default:
		result.Right = true
	}
	return result
}

// check verifies without a bound for the age.
func check(d saved, secret string) error {
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{Tolerance: math.MaxInt64})
	if err != nil {
		return err
	}
	return v.Verify(d.headers, d.body)
}

func outside(age int64) bool {
	limit := int64(grantexhook.DefaultTolerance / time.Second)
	return age > limit || age < -limit
}

func seconds64(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil
}

func (r *verdict) stale(now time.Time) {
	r.Reason = grantexhook.ReasonStale
	r.Why = fmt.Sprintf("the signature fits, but was made %s before %s; %v are allowed", seconds(*r.AgeSeconds), now.UTC().Format(time.RFC3339), grantexhook.DefaultTolerance)
	r.Hint = "is it a replay, or is the receiver's clock fast? for an old recording use -now TIME or -any-time"
	if *r.AgeSeconds < 0 {
		r.Why = fmt.Sprintf("the signature fits, but was made %s after %s; %v are allowed", seconds(-*r.AgeSeconds), now.UTC().Format(time.RFC3339), grantexhook.DefaultTolerance)
		r.Hint = "is the receiver's clock slow? -now TIME verifies at another time"
	}
}

// explain looks for the mistakes that make the signature wrong.
func (r *verdict) explain(err error, d saved, secret string) {
	r.Reason = grantexhook.ReasonBadSignature
	found := diagnose(d, secret)
	switch {
	case len(found) > 0:
		for _, m := range found {
			r.Mistakes = append(r.Mistakes, m.what)
		}
		r.Why, r.Hint = strings.Join(r.Mistakes, "; and "), found[0].fix
	case !errors.Is(err, grantexhook.ErrBadSignature) && !errors.Is(err, grantexhook.ErrStale):
		r.Why, r.Hint = oneLine(err.Error()), "look at GRANTEX_WEBHOOK_SECRET or at the file that holds it"
	case len(bytes.TrimSpace(d.body)) == 0:
		r.Why, r.Hint = "the body is empty", "it is what was sent after the headers; was it read before it was saved?"
	default:
		r.Why = oneLine(err.Error())
		r.Hint = "no usual mistake explains it: the secret may be another endpoint's, or the body is not, byte for byte, what was sent"
	}
}

func (r *verdict) print(w io.Writer) {
	if !r.Right {
		fmt.Fprintf(w, "wrong: %s\nhint: %s\n", r.Why, r.Hint)
		return
	}
	if r.AgeSeconds == nil {
		fmt.Fprintf(w, "right: %s fits; it has no timestamp, so that it can be replayed for ever\n", r.Header)
		return
	}
	fmt.Fprintf(w, "right: %s fits; signed %s\n", r.Header, r.SentAt)
}
