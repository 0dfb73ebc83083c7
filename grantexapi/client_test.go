package grantexapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

func TestClientRejectsItsFields(t *testing.T) {
	tests := []struct {
		name            string
		apiKey, baseURL string // SERVER stands for that of the API
		want            string
	}{
		{"no key", "", "SERVER", "Client.APIKey is empty"},
		{"placeholder", "[redacted]", "SERVER", "Client.APIKey is the placeholder"},
		{"line end in key", apiKey + "\n", "SERVER", "Client.APIKey has white space"},
		{"space in key", "gx test", "SERVER", "Client.APIKey has white space"},
		{"letter no key has", "gx_té", "SERVER", "Client.APIKey has white space"},
		{"quotation mark in key", `gx_"test`, "SERVER", "Client.APIKey has white space or another character"},
		{"backslash in key", `gx_\test`, "SERVER", "Client.APIKey has white space or another character"},
		{"padding within key", "gx=test", "SERVER", "Client.APIKey has white space or another character"},
		{"only padding", "==", "SERVER", "Client.APIKey has white space or another character"},
		{"version", apiKey, "SERVER/v1", `Client.BaseURL must not end in "/v1"`},
		{"version after a path", apiKey, "SERVER/grantex/v1/", `Client.BaseURL must not end in "/v1"`},
		{"relative", apiKey, "api.grantex.dev", "Client.BaseURL must be"},
		{"only a path", apiKey, "/v1", "Client.BaseURL must be"},
		{"no host", apiKey, "https://", "Client.BaseURL must be"},
		{"only a port", apiKey, "https://:443/", "Client.BaseURL must be"},
		{"other scheme", apiKey, "ftp://api.grantex.dev", "Client.BaseURL must be"},
		{"opaque", apiKey, "https:api.grantex.dev", "Client.BaseURL must be"},
		{"does not parse", apiKey, "https://api.grantex.dev:port", "Client.BaseURL must be"},
		{"line end in URL", apiKey, "SERVER\n", "Client.BaseURL must be"},
		{"user", apiKey, "https://me:word@api.grantex.dev", "Client.BaseURL must be"},
		{"query", apiKey, "SERVER?a=b", "Client.BaseURL must be"},
		{"empty query", apiKey, "SERVER?", "Client.BaseURL must be"},
		{"fragment", apiKey, "SERVER#a", "Client.BaseURL must be"},
		{"key in the place of the URL", apiKey, apiKey, "Client.BaseURL must be"},
	}
	for _, tt := range tests {
		for _, call := range everyCall {
			t.Run(tt.name+"/"+call.name, func(t *testing.T) {
				a := newAPI(t, says(200, "{}"))
				c := &grantexapi.Client{APIKey: grantexhook.Secret(tt.apiKey), BaseURL: strings.Replace(tt.baseURL, "SERVER", a.URL, 1)}
				err := call.call(t.Context(), c)
				require.ErrorContains(t, err, "grantexapi: "+tt.want)
				require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
				require.NotContains(t, err.Error(), apiKey)
				require.NotContains(t, err.Error(), "word")
				require.Empty(t, a.lines())
			})
		}
	}
}

func TestClientBaseURL(t *testing.T) {
	tests := []struct{ name, after, want string }{
		{"bare", "", "GET /v1/webhooks"},
		{"slash", "/", "GET /v1/webhooks"},
		{"slashes", "//", "GET /v1/webhooks"},
		{"path", "/grantex", "GET /grantex/v1/webhooks"},
		{"path and slash", "/grantex/api/", "GET /grantex/api/v1/webhooks"},
		{"path like a version", "/grantex-v1", "GET /grantex-v1/v1/webhooks"},
		{"escaped path", "/a%2Fb/", "GET /a%2Fb/v1/webhooks"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(200, `{"webhooks":[]}`))
			c := a.client()
			c.BaseURL += tt.after
			require.NoError(t, list(t.Context(), c))
			require.Equal(t, []string{tt.want}, a.lines())
		})
	}
}

func TestClientDefaultBaseURL(t *testing.T) {
	var url string
	c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		url = r.URL.String()
		return nil, io.EOF
	})}}
	require.ErrorIs(t, list(t.Context(), c), io.EOF)
	require.Equal(t, "https://api.grantex.dev/v1/webhooks", url)
}

func TestClientHeaders(t *testing.T) {
	for _, call := range everyCall {
		t.Run(call.name, func(t *testing.T) {
			a := newAPI(t, says(418, ""))
			require.Error(t, call.call(t.Context(), a.client()))
			h := a.asked[0].Header
			require.Equal(t, "Bearer "+apiKey, h.Get("Authorization"))
			require.Equal(t, "grantexhook/devel", h.Get("User-Agent"))
			require.Equal(t, "application/json", h.Get("Accept"))
			require.Equal(t, a.asked[0].Method == http.MethodPost, h.Get("Content-Type") == "application/json")
		})
	}
}

// TestClientRejectsResponses checks that a response of another kind is an error, and never
// an empty list.
func TestClientRejectsResponses(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		delete bool // refuses it too
		want   string
	}{
		{"empty", says(200, ""), false, "unexpected response (0 bytes, not the expected JSON)"},
		{"no content", says(204, ""), false, "unexpected response (0 bytes, not the expected JSON)"},
		{"page", says(200, "<html>sign in</html>"), true, "unexpected response (20 bytes, not the expected JSON); is Client.BaseURL right?"},
		{"other object", says(200, "{}"), false, "unexpected response (2 bytes, not the expected JSON)"},
		{"null", says(200, `{"webhooks":null,"deliveries":null}`), false, "bytes, not the expected JSON)"},
		{"null among them", says(200, `{"webhooks":[null],"deliveries":[null],"total":1,"page":1}`), false, "bytes, not the expected JSON)"},
		{"no ID", says(200, `{"webhooks":[{"id":"wh_1"},{"url":"https://example.com"}],`+
			`"deliveries":[{"id":"whd_1"},{"eventId":"evt_1"}],"total":2,"page":1}`), false, "bytes, not the expected JSON)"},
		{"array", says(200, "[]"), false, "unexpected response (2 bytes, not the expected JSON)"},
		{"cut JSON", says(200, `{"webhooks":[{"id":"wh_1","secret":"`+secret), true, "bytes, not the expected JSON)"},
		{"more after it", says(200, `{"webhooks":[],"deliveries":[]}{}`), true, "unexpected response (33 bytes, not the expected JSON)"},
		{"wrong type", says(200, `{"webhooks":[{"createdAt":"`+secret+`"}],"deliveries":[{"createdAt":"`+secret+`"}]}`), false, "bytes, not the expected JSON)"},
		{"wrong types among right ones", says(200, `{"webhooks":[{"id":"wh_1","createdAt":"`+secret+`"}],`+
			`"deliveries":[{"id":"whd_1","attempts":"`+secret+`"}],"total":1,"page":1,`+
			`"id":"wh_1","secret":["`+secret+`"]}`), false, "bytes, not the expected JSON)"},
		{"too large", says(200, `{"webhooks":[],"deliveries":[]}`+strings.Repeat(" ", 1<<20)), true, "the response is larger than 1048576 bytes"},
		{"cut", cut(200, `{"webhooks":[`), true, "reading the response: unexpected EOF"},
		{"other protocol", raw("HTTP/1.1 101 Switching Protocols\r\n\r\n"), true, "unexpected status 101; is Client.BaseURL right?"},
	}
	for _, tt := range tests {
		for _, call := range everyCall {
			if call.name == "delete" && !tt.delete {
				continue // takes any JSON, or an empty body
			}
			if call.name == "grants" {
				continue // isn't read as a whole: see TestGrantsRejectsResponses
			}
			t.Run(tt.name+"/"+call.name, func(t *testing.T) {
				a := newAPI(t, tt.answer)
				err := call.call(t.Context(), a.client())
				require.ErrorContains(t, err, tt.want)
				require.Regexp(t, `^grantexapi: (GET|POST|DELETE) /v1/(webhooks|grants/grnt_1)`, err.Error())
				require.NotContains(t, err.Error(), secret)
				require.Equal(t, call.name == "create", errors.Is(err, grantexapi.ErrMaybeCreated))
				require.Len(t, a.lines(), 1)
			})
		}
	}
}

func TestClientTakesTheLargestResponse(t *testing.T) {
	body := `{"webhooks":[]}`
	a := newAPI(t, says(200, body+strings.Repeat(" ", 1<<20-len(body))))
	require.NoError(t, list(t.Context(), a.client()))
}

// A closing body records whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

// TestClientClosesResponses checks that every response's body is closed.
func TestClientClosesResponses(t *testing.T) {
	tests := []struct {
		name     string
		status   int
		body     string
		breaks   bool // off, after the body
		followed bool // a redirect, within the Transport
	}{
		{"right", 200, `{"webhooks":[]}`, false, false},
		{"no content", 204, "", false, false},
		{"no JSON", 200, "<html>", false, false},
		{"too large", 200, strings.Repeat(" ", 1<<21), false, false},
		{"breaks off", 200, "{", true, false},
		{"other protocol", 101, "", false, false},
		{"redirect", 302, "", false, false},
		{"followed redirect", 200, "{}", false, true},
		{"rejected", 404, "{}", false, false},
		{"rejected and broken off", 503, "{", true, false},
	}
	for _, tt := range tests {
		for _, call := range everyCall {
			t.Run(tt.name+"/"+call.name, func(t *testing.T) {
				var bodies []*closing
				c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					body := &closing{Reader: strings.NewReader(tt.body)}
					if tt.breaks {
						body.Reader = io.MultiReader(body.Reader, iotest.ErrReader(io.ErrUnexpectedEOF))
					}
					bodies = append(bodies, body)
					resp := &http.Response{StatusCode: tt.status, Header: http.Header{"Location": {"/"}}, Body: body, Request: r}
					if tt.followed {
						resp.Request = &http.Request{Response: new(http.Response)}
					}
					return resp, nil
				})}}
				call.call(t.Context(), c)
				require.NotEmpty(t, bodies)
				for _, body := range bodies {
					require.True(t, body.closed)
				}
			})
		}
	}
}

// endless is a body that counts what is read of it.
type endless int

func (e *endless) Read(p []byte) (int, error) { *e += endless(len(p)); return len(p), nil }
func (e *endless) Close() error               { return nil }

func TestClientReadsThroughALimit(t *testing.T) {
	for status, want := range map[int]int{101: 0, 200: 1<<20 + 1, 500: 1 << 20} {
		body := new(endless)
		c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: body}, nil
		})}}
		require.Error(t, list(t.Context(), c))
		require.EqualValues(t, want, *body, status)
	}
}

func TestClientFollowsNoRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, call := range everyCall {
			for _, own := range []*http.Client{nil, {}, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
				t.Run(fmt.Sprint(status, "/", call.name), func(t *testing.T) {
					other := newAPI(t, says(200, "{}"))
					a := newAPI(t, http.RedirectHandler(other.URL+"/v1/webhooks?token="+secret, status))
					c := a.client()
					c.HTTPClient = own
					err := call.call(t.Context(), c)
					var refused *grantexapi.Error
					require.ErrorAs(t, err, &refused)
					require.Equal(t, status, refused.StatusCode)
					require.Equal(t, "redirect to "+other.URL+", which is not followed; is Client.BaseURL right?", refused.Message)
					require.Equal(t, status == 303 && call.name == "create", errors.Is(err, grantexapi.ErrMaybeCreated))
					require.Len(t, a.lines(), 1)
					require.Empty(t, other.lines())
				})
			}
		}
	}
}

func TestClientLeavesTheHTTPClientAlone(t *testing.T) {
	a := newAPI(t, says(200, `{"webhooks":[]}`))
	c := a.client()
	c.HTTPClient = &http.Client{Timeout: time.Minute}
	require.NoError(t, list(t.Context(), c))
	require.Equal(t, &http.Client{Timeout: time.Minute}, c.HTTPClient)
}

// TestClientFollowsTheDefaultTransport checks that a Client without an HTTPClient uses
// what takes the place of http.DefaultTransport, for as long as it's there.
func TestClientFollowsTheDefaultTransport(t *testing.T) {
	c := newAPI(t, says(200, `{"webhooks":[]}`)).client()
	require.NoError(t, list(t.Context(), c))
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	http.DefaultTransport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	require.ErrorIs(t, list(t.Context(), c), io.EOF)
	http.DefaultTransport = before
	require.NoError(t, list(t.Context(), c))
}

// TestClientReportsARedirectWithinTheTransport checks that a redirect is reported which
// a Transport followed by itself.
func TestClientReportsARedirectWithinTheTransport(t *testing.T) {
	a := newAPI(t, http.RedirectHandler("/elsewhere", http.StatusFound), says(200, `{"webhooks":[]}`))
	for _, call := range everyCall {
		t.Run(call.name, func(t *testing.T) {
			c := a.client()
			c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.RequestURI = ""
				r.URL.Path = "/"
				a.mu.Lock()
				a.asked = nil
				a.mu.Unlock()
				return http.DefaultClient.Do(r)
			})}
			err := call.call(t.Context(), c)
			require.ErrorContains(t, err, "Client.HTTPClient followed a redirect")
			require.Equal(t, call.name == "create", errors.Is(err, grantexapi.ErrMaybeCreated))
			require.Len(t, a.lines(), 2)
		})
	}
}

func TestClientCancelled(t *testing.T) {
	for _, call := range everyCall {
		t.Run(call.name+"/before", func(t *testing.T) {
			a := newAPI(t, says(200, "{}"))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := call.call(ctx, a.client())
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, "grantexapi: ")
			require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
			require.Empty(t, a.lines())
		})
		t.Run(call.name+"/meanwhile", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			a := newAPI(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				cancel()
				<-r.Context().Done()
			}))
			err := call.call(ctx, a.client())
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, call.name == "create", errors.Is(err, grantexapi.ErrMaybeCreated))
			require.Len(t, a.lines(), 1)
		})
	}
}

func TestClientTimeout(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
		<-r.Context().Done()
	}
	halting := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "{")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		own    *http.Client
		want   time.Duration
	}{
		{"silent", silent, nil, 30 * time.Second},
		{"halting", halting, nil, 30 * time.Second},
		{"silent, own", silent, &http.Client{Timeout: time.Second}, time.Second},
		{"halting, own", halting, &http.Client{Timeout: time.Second}, time.Second},
		{"silent, own without a Timeout", silent, &http.Client{}, time.Hour}, // the context's
	}
	for _, tt := range tests {
		for _, call := range everyCall {
			t.Run(tt.name+"/"+call.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					transport := servePipes(t, tt.answer)
					own := tt.own
					if own == nil {
						grantexapi.SetTransport(t, transport)
					} else {
						own = &http.Client{Timeout: own.Timeout, Transport: transport}
					}
					c := &grantexapi.Client{APIKey: apiKey, BaseURL: "http://pipe", HTTPClient: own}
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					start := time.Now()
					err := call.call(ctx, c)
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, call.name == "create", errors.Is(err, grantexapi.ErrMaybeCreated))
					require.Equal(t, tt.want, time.Since(start))
				})
			})
		}
	}
}

// TestClientErrorsHaveNoKey checks the errors of net/http, which may quote a response
// that echoes the key.
func TestClientErrorsHaveNoKey(t *testing.T) {
	const key = "gx_A.b~c+d/e-9=="
	a := newAPI(t, raw("HTTP/1.1 200 OK\r\nBearer "+key+"\r\n\r\n"))
	for _, call := range everyCall {
		t.Run(call.name, func(t *testing.T) {
			c := a.client()
			c.APIKey = key
			err := call.call(t.Context(), c)
			require.ErrorContains(t, err, "malformed MIME header")
			require.ErrorContains(t, err, "[redacted]")
			require.ErrorAs(t, err, new(*url.Error))
			for ; err != nil; err = errors.Unwrap(err) {
				require.NotContains(t, fmt.Sprintf("%v %+[1]v", err), key)
				require.NotImplements(t, (*interface{ Unwrap() []error })(nil), err)
			}
		})
	}
}

func TestClientIsSafeForConcurrentUse(t *testing.T) {
	a := newAPI(t, says(200, `{"webhooks":[]}`))
	c := a.client()
	c.HTTPClient = a.Client()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = list(t.Context(), c) })
	}
	wg.Wait()
	require.Len(t, a.lines(), 8)
}

func TestClientShowsNoKey(t *testing.T) {
	c := grantexapi.Client{APIKey: apiKey, BaseURL: "https://api.example.com/"}
	requireHidden(t, apiKey, c, &c, []grantexapi.Client{c}, []*grantexapi.Client{&c}, struct{ C grantexapi.Client }{c})
	requireNotShown(t, apiKey, fmt.Sprintf("%v %+[1]v %#[1]v", struct{ c *grantexapi.Client }{&c}), "%T", c)
	const want = "grantexapi.Client{BaseURL: https://api.example.com, APIKey: [redacted]}"
	require.Equal(t, want, fmt.Sprintf("%+v", c))
	text, err := json.Marshal(&c)
	require.NoError(t, err)
	require.JSONEq(t, `"`+want+`"`, string(text))

	c.BaseURL = apiKey // in the wrong place
	requireHidden(t, apiKey, c, &c, []grantexapi.Client{c}, []*grantexapi.Client{&c}, struct{ C *grantexapi.Client }{&c}, map[string]any{"k": &c})
	require.Equal(t, "grantexapi.Client{BaseURL: invalid, APIKey: [redacted]}", fmt.Sprint(&c))
}
