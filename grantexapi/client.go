// Package grantexapi is a client of the Grantex API. It creates, lists, rotates
// and deletes the endpoints of an account, and reports what became of their
// deliveries.
package grantexapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
)

// redacted stands where a key or a secret was, as [grantexhook.Secret] shows it.
const redacted = "[redacted]"

const (
	defaultBaseURL = "https://api.grantex.dev"

	// callTimeout is for a nil HTTPClient, since that of net/http has none.
	callTimeout = 30 * time.Second

	// maxHeader is far more than the API sends. It bounds a host that doesn't stop.
	maxHeader = 64 << 10

	// maxAnswer is what thousands of endpoints take, or a page of deliveries to
	// the longest of URLs.
	maxAnswer = 1 << 20
)

// A Client manages the endpoints of one Grantex account. It is ready to use once
// APIKey is set, and safe for concurrent use as long as its fields stay as they
// are. Printed, logged or encoded it does not show its APIKey, except by fmt under
// the verbs %p and %w and by encoding/gob; for a struct of yours that holds or
// embeds a Client, the limits are those of [grantexhook.Secret].
//
// Create is sent once; net/http may repeat the others on a new connection if one
// that it kept turns out to be lost. A redirect is an error, not followed; one
// that a Transport follows by itself is reported after the fact. What the API
// refuses is an [*Error]; whether a URL, a type of event or an ID is right, only
// the API can say. A field that cannot be right, an argument that is missing and
// an unknown status are errors before anything is sent. An answer of more than
// 1 MiB is an error too.
//
// The text of an error never holds the APIKey. What net/http failed with, such as
// [context.DeadlineExceeded], is found by [errors.Is] and [errors.As] and not by
// [errors.Unwrap]: its own text may quote the other side, and that the APIKey.
type Client struct {
	// APIKey is that of the account, made of letters, digits and "-._~+/", with "="
	// only at its end (RFC 6750, section 2.1).
	APIKey grantexhook.Secret

	// BaseURL is where the API is, without its "/v1": https://api.grantex.dev
	// if empty. It may have a path.
	BaseURL string

	// HTTPClient sends the requests: one that allows each 30 seconds if nil. In
	// one of yours, Timeout or the context has to see to that. CheckRedirect is
	// not asked.
	//
	// List, Delete and Deliveries may be repeated, for instance by
	// github.com/hashicorp/go-retryablehttp:
	//
	//	rc := retryablehttp.NewClient()
	//	rc.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	//	c.HTTPClient = rc.StandardClient()
	//
	// Without the second line it follows redirects, and takes the APIKey to other
	// ports, to subdomains and from https to http. Create and Rotate must not be
	// repeated, and such a client repeats POST as it does GET: call these two on a
	// second Client, whose HTTPClient does not retry.
	HTTPClient *http.Client
}

// Format implements [fmt.Formatter]. No verb that asks it shows the APIKey.
func (c Client) Format(f fmt.State, _ rune) { io.WriteString(f, c.text()) }

// MarshalText implements [encoding.TextMarshaler]. It does not show the APIKey.
func (c Client) MarshalText() ([]byte, error) { return []byte(c.text()), nil }

// text leaves out a BaseURL that is none, which may be an API key in the wrong
// place.
func (c Client) text() string {
	base, err := c.base()
	if err != nil {
		base = "invalid"
	}
	return fmt.Sprintf("grantexapi.Client{BaseURL: %s, APIKey: %s}", base, redacted)
}

// call sends a request and decodes the answer to it, which is none unless it is
// complete.
func call[T any](ctx context.Context, c *Client, method, path string, body []byte, complete func(T) bool) (T, error) {
	var out, none T
	text, err := c.do(ctx, method, path, body)
	if err != nil {
		return none, err
	}
	if json.Unmarshal(text, &out) != nil || !complete(out) { // the decoder's error would quote the answer
		return none, c.unexpected(method, path, text)
	}
	return out, nil
}

func (c *Client) unexpected(method, path string, text []byte) error {
	return c.failed(fmt.Errorf("%s %s: unexpected response (%d bytes, not the expected JSON); is Client.BaseURL right?", method, path, len(text)))
}

// do sends a request once and returns the body of a 2xx response.
func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(c.http(), req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode > 299:
		return nil, newError(resp, text, string(c.APIKey)) // whatever of it could be read
	case err != nil:
		return nil, c.failed(fmt.Errorf("%s %s: reading the response: %w", method, path, err))
	case len(text) > maxAnswer:
		return nil, c.failed(fmt.Errorf("%s %s: the response is larger than %d bytes", method, path, maxAnswer))
	}
	return text, nil
}

// send returns the response to a request, which h sends once. A response that can't
// be one is an error.
func (c *Client) send(h *http.Client, req *http.Request) (*http.Response, error) {
	var conn connection
	resp, err := h.Do(req.WithContext(conn.watch(req.Context())))
	if err != nil {
		failed := c.failed(err)
		failed.unheard = conn.none()
		return nil, failed
	}
	var failed *callError
	switch call := req.Method + " " + req.URL.RequestURI(); {
	case resp.StatusCode < 200: // the body of 101 is the connection, which has no end and knows no context
		failed = c.failed(fmt.Errorf("%s: unexpected status %d; is Client.BaseURL right?", call, resp.StatusCode))
	case resp.Request != nil && resp.Request.Response != nil: // set if a client within a Transport followed a redirect
		failed = c.failed(fmt.Errorf("%s: Client.HTTPClient followed a redirect; it must not", call))
		failed.lasting = true
	default:
		return resp, nil
	}
	resp.Body.Close()
	return nil, failed
}

func (c *Client) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	base, err := c.base()
	if err = cmp.Or(err, c.checkKey()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("grantexapi: %s %s: %w", method, path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("grantexapi: %w", err)
	}
	// Without it, neither http.Client nor Transport can send the body again.
	req.GetBody = nil
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+string(c.APIKey))
	req.Header.Set("User-Agent", userAgent())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// http returns a client that follows no redirect. A 307 or 308 would repeat a POST,
// and the APIKey is only for the API.
func (c *Client) http() *http.Client {
	h := http.Client{Timeout: callTimeout, Transport: transport()}
	if c.HTTPClient != nil {
		h = *c.HTTPClient
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

// transport returns the Transport of a nil HTTPClient: http.DefaultTransport, but
// with less room for headers.
var transport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxResponseHeaderBytes = maxHeader
	return t
})

// base returns where the API is, without a slash at the end. Its error does not
// quote what it was given: an API key in the wrong place would be in it.
func (c *Client) base() (string, error) {
	u, err := url.Parse(cmp.Or(c.BaseURL, defaultBaseURL))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		*u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}) {
		return "", errors.New("grantexapi: Client.BaseURL must be an http or https URL with a host, and nothing after its path, such as " + defaultBaseURL)
	}
	base := strings.TrimRight(u.String(), "/")
	if strings.HasSuffix(base, "/v1") {
		return "", errors.New(`grantexapi: Client.BaseURL must not end in "/v1", which is added to it`)
	}
	return base, nil
}

// bearerToken is a key that quoting does not change, so that it is found in what
// others quote.
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func (c *Client) checkKey() error {
	switch {
	case c.APIKey == "":
		return errors.New("grantexapi: Client.APIKey is empty; set it to that of the Grantex account")
	case c.APIKey == redacted:
		return fmt.Errorf("grantexapi: Client.APIKey is the placeholder %s", redacted)
	case !bearerToken.MatchString(string(c.APIKey)):
		return errors.New("grantexapi: Client.APIKey has white space or another character that no key has; trim it")
	}
	return nil
}

// A callError is a call that brought no answer, or none that can be used.
type callError struct {
	text    string
	cause   error // not to be unwrapped, since its text is not clean
	unheard bool  // certainly
	lasting bool  // until the Client is changed
}

func (e *callError) Error() string        { return e.text }
func (e *callError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *callError) As(target any) bool   { return errors.As(e.cause, target) }

// failed cleans the text of an error that may quote what the other side sent.
func (c *Client) failed(err error) *callError {
	return &callError{text: clean("grantexapi: "+err.Error(), string(c.APIKey), maxLine), cause: err}
}

// A connection is what a call has asked for and got, over all attempts that a
// Transport makes at it.
type connection struct{ asked, got atomic.Bool }

func (c *connection) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { c.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { c.got.Store(true) },
	})
}

// none reports whether there never was one. Of a Transport that does not say
// what it does, nothing is known.
func (c *connection) none() bool { return c.asked.Load() && !c.got.Load() }

// maybeHeard reports whether a call that failed may have had its effect. It had
// none if it was refused, if nothing was sent, or if there was no connection. 303
// is how a server answers what it has done (RFC 9110, section 15.4.4).
func maybeHeard(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode >= 500 || e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusSeeOther
	}
	e, ok := errors.AsType[*callError](err)
	return ok && !e.unheard
}

// mayPass reports whether a call that failed may succeed when it's repeated. A
// call that never became a request, or that the API rejected for what it asks, would
// only fail again.
func mayPass(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, e.StatusCode)
	}
	e, sent := errors.AsType[*callError](err)
	return sent && !e.lasting
}

var userAgent = sync.OnceValue(func() string {
	info, _ := debug.ReadBuildInfo()
	return "grantexhook/" + version(info)
})

// version returns that of this module in a program, or "devel" if the program
// was built with a copy of it.
func version(info *debug.BuildInfo) string {
	if info == nil {
		return "devel"
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	i := slices.IndexFunc(modules, func(m *debug.Module) bool { return m.Path == "grantex.dev/grantexhook" })
	if i < 0 || modules[i].Replace != nil || !strings.HasPrefix(modules[i].Version, "v") {
		return "devel"
	}
	return modules[i].Version
}
