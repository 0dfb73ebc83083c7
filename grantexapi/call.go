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
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// maxBody is enough for thousands of endpoints, or for a page of deliveries to the
// longest URLs.
const maxBody = 1 << 20

// call sends a request and decodes the response. An incomplete response is an error.
func call[T any](ctx context.Context, c *Client, method, path string, body []byte, complete func(T) bool) (T, error) {
	var out, zero T
	text, err := c.do(ctx, method, path, body)
	if err != nil {
		return zero, err
	}
	if json.Unmarshal(text, &out) != nil || !complete(out) { // the decoder's error would quote the response
		return zero, c.unexpected(method, path, text)
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
	if resp.StatusCode > 299 {
		return nil, c.rejected(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, c.failed(fmt.Errorf("%s %s: reading the response: %w", method, path, err))
	case len(text) > maxBody:
		return nil, c.failed(fmt.Errorf("%s %s: the response is larger than %d bytes; is Client.BaseURL right?", method, path, maxBody))
	}
	return text, nil
}

// rejected returns the error of a response that isn't 2xx, with as much text as can be
// read.
func (c *Client) rejected(resp *http.Response) *Error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return newError(resp, text, string(c.APIKey))
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
	req.GetBody = nil // with it, http.Client and Transport could send the body again
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+string(c.APIKey))
	req.Header.Set("User-Agent", userAgent())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// send sends a request once. It returns any response with a final status, unless the
// Transport followed a redirect.
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
	case resp.StatusCode < 200: // the body of a 101 is the connection, which never ends and ignores the context
		failed = c.failed(fmt.Errorf("%s: unexpected status %d; is Client.BaseURL right?", call, resp.StatusCode))
	case resp.Request != nil && resp.Request.Response != nil: // set if a client inside the Transport followed a redirect
		failed = c.failed(fmt.Errorf("%s: Client.HTTPClient followed a redirect; configure it to return redirects", call))
		failed.lasting = true
	default:
		return resp, nil
	}
	resp.Body.Close()
	return nil, failed
}

// A callError reports a call that got no response, or an unusable one.
type callError struct {
	text    string
	cause   error // not returned by Unwrap, since its text isn't clean
	unheard bool  // the request certainly didn't arrive
	lasting bool  // until the Client is changed
}

func (e *callError) Error() string        { return e.text }
func (e *callError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *callError) As(target any) bool   { return errors.As(e.cause, target) }

// failed cleans the text of an error that may quote the response.
func (c *Client) failed(err error) *callError {
	return &callError{text: clean("grantexapi: "+err.Error(), string(c.APIKey), maxLine), cause: err}
}

// mayPass reports whether a failed call may succeed when it's retried. It can't if the
// call never became a request, or if the API rejected what it asks for.
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

// version returns the version of this module in a program, or "devel" if the program
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
