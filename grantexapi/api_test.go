package grantexapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

const apiKey = "gx_test_0123456789"

// An exchange is a recorded call of the real API.
type exchange struct {
	Name    string `json:"name"`
	Request struct {
		Method  string      `json:"method"`
		Path    string      `json:"path"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"response"`
}

// exchanges returns the recordings in order and by name.
func exchanges(t testing.TB) (all []exchange, named map[string]exchange) {
	t.Helper()
	named = map[string]exchange{}
	for _, file := range []string{"testdata/api.jsonl", "testdata/grants.jsonl"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
			var e exchange
			require.NoError(t, dec.Decode(&e))
			all = append(all, e)
			named[e.Name] = e
		}
	}
	require.Len(t, named, 57+18)
	return all, named
}

// ServeHTTP responds as the real API did.
func (e exchange) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for _, kv := range e.Response.Headers {
		w.Header().Set(kv[0], kv[1])
	}
	w.WriteHeader(e.Response.Status)
	io.WriteString(w, e.Response.Body)
}

// apiKey returns the key of the recorded call.
func (e exchange) apiKey() string {
	for _, kv := range e.Request.Headers {
		if kv[0] == "Authorization" {
			return strings.TrimPrefix(kv[1], "Bearer ")
		}
	}
	return "none"
}

// says responds with a status and a body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// cut breaks the connection in the middle of the response.
func cut(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10000")
		w.WriteHeader(status)
		io.WriteString(w, body)
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// raw responds with these bytes and closes the connection.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, answer)
		conn.Close()
	}
}

// An api is a server in place of Grantex that records requests.
type api struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []*http.Request
	bodies []string
}

// newAPI starts a server that handles each request with the next handler, and with the
// last from then on.
func newAPI(t testing.TB, handlers ...http.Handler) *api {
	t.Helper()
	a := new(api)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		i := min(len(a.asked), len(handlers)-1)
		a.asked = append(a.asked, r)
		a.bodies = append(a.bodies, string(body))
		a.mu.Unlock()
		handlers[i].ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) client() *grantexapi.Client {
	return &grantexapi.Client{APIKey: apiKey, BaseURL: a.URL}
}

// lines returns the requests so far as "METHOD path?query".
func (a *api) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := []string{}
	for _, r := range a.asked {
		lines = append(lines, r.Method+" "+r.RequestURI)
	}
	return lines
}

// everyCall has each call of a Client, with valid arguments.
var everyCall = []struct {
	name string
	call func(context.Context, *grantexapi.Client) error
}{
	{"create", create},
	{"list", list},
	{"delete", remove},
	{"deliveries", func(ctx context.Context, c *grantexapi.Client) error {
		for _, err := range c.Deliveries(ctx, "wh_1", "") {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"rotate", func(ctx context.Context, c *grantexapi.Client) error {
		_, err := c.Rotate(ctx, "wh_1")
		return err
	}},
	{"grants", grants},
	{"grant", func(ctx context.Context, c *grantexapi.Client) error {
		_, err := c.Grant(ctx, "grnt_1")
		return err
	}},
}

func grants(ctx context.Context, c *grantexapi.Client) error {
	_, err := collect(c.Grants(ctx, grantexapi.GrantQuery{}))
	return err
}

func create(ctx context.Context, c *grantexapi.Client) error {
	_, err := c.Create(ctx, "https://example.com/hook", grantexhook.TypeGrantRevoked)
	return err
}

func list(ctx context.Context, c *grantexapi.Client) error {
	_, err := c.List(ctx)
	return err
}

func remove(ctx context.Context, c *grantexapi.Client) error { return c.Delete(ctx, "wh_1") }

// A roundTripper is a function that implements [http.RoundTripper].
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func requireRefused(t testing.TB, err error, status int, code string) *grantexapi.Error {
	t.Helper()
	var refused *grantexapi.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, status, refused.StatusCode)
	require.Equal(t, code, refused.Code)
	return refused
}

// collect returns what an iterator yields before its first error.
func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

func ids(all []grantexapi.Delivery) (ids []string) {
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids
}
