package hooktest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/hooktest"
)

// newAPI returns an API that ends with the test, and a client in memory.
func newAPI(t *testing.T) (*hooktest.API, *grantexapi.Client) {
	t.Helper()
	a := hooktest.NewAPI()
	t.Cleanup(a.Close)
	return a, &grantexapi.Client{APIKey: "gx_test_1", HTTPClient: a.Client()}
}

// get returns the status and the body of a response.
func get(t *testing.T, h *http.Client, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://api.grantex.dev"+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer gx_test_1")
	resp, err := h.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestAPIDeliversInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		var revoked []string
		failures := 2
		handler := newHandler(func(_ context.Context, grantID string) error {
			if failures--; failures >= 0 {
				return io.ErrUnexpectedEOF
			}
			revoked = append(revoked, grantID)
			return nil
		})
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: handler}, grantexhook.TypeGrantRevoked)
		g := a.Create(grantexhook.GrantCreated{})
		a.Revoke(g.GrantID)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{g.GrantID}, revoked)
		for d, err := range c.Deliveries(t.Context(), id, grantexapi.StatusDelivered) {
			require.NoError(t, err)
			require.Equal(t, 3, d.Attempts)
			require.Equal(t, "HTTP 500", d.LastError)
			require.Equal(t, 150*time.Second, d.DeliveredAt.Sub(d.CreatedAt))
		}
	})
}

func TestAPIStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		start := time.Now()
		go func() {
			time.Sleep(time.Minute)
			a.Revoke(a.Create(grantexhook.GrantCreated{GrantID: "grnt_1"}).GrantID)
		}()
		for body, err := range c.Events(t.Context(), grantexhook.TypeGrantRevoked) {
			require.NoError(t, err)
			if body == nil {
				require.Equal(t, 30*time.Second, time.Since(start))
				continue
			}
			require.Regexp(t, `^{"id":"evt_[0-9A-Z]{26}","type":"grant.revoked","createdAt":"[^"]+","data":{"grantId":"grnt_1","cascade":false}}$`, string(body))
			break
		}
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestAPIOverTheNetwork(t *testing.T) {
	a := hooktest.NewAPI()
	defer a.Close()
	server := httptest.NewServer(a)
	defer server.Close()
	c := &grantexapi.Client{APIKey: "gx_test_1", BaseURL: server.URL}
	got := make(chan string, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	defer receiver.Close()
	_, err := c.Create(t.Context(), receiver.URL, grantexhook.TypeGrantRevoked)
	require.NoError(t, err)
	g := a.Create(grantexhook.GrantCreated{})
	a.Revoke(g.GrantID)
	require.Contains(t, <-got, g.GrantID)
}

func TestAPIGrants(t *testing.T) {
	a, _ := newAPI(t)
	g := a.Create(grantexhook.GrantCreated{Scopes: []string{"read"}})
	child := a.Create(grantexhook.GrantCreated{ParentGrantID: g.GrantID})
	status, body := get(t, a.Client(), "GET", "/v1/grants?status=active")
	require.Equal(t, 200, status)
	require.Contains(t, body, g.GrantID)
	require.Contains(t, body, child.GrantID)
	status, _ = get(t, a.Client(), "DELETE", "/v1/grants/"+g.GrantID)
	require.Equal(t, 204, status)
	status, body = get(t, a.Client(), "GET", "/v1/grants/"+child.GrantID)
	require.Equal(t, 200, status)
	require.Contains(t, body, `"status":"revoked"`)
	a.DeleteAgent(g.AgentID)
	status, _ = get(t, a.Client(), "GET", "/v1/grants/"+g.GrantID)
	require.Equal(t, 404, status)
}

func post(a *hooktest.API, path, body string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, "https://api.grantex.dev"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer gx_test_1")
	req.Header.Set("Content-Type", "application/json")
	return a.Client().Do(req)
}

// TestClient checks grants through a client, over the network and in memory.
func TestClient(t *testing.T) {
	a, inMemory := newAPI(t)
	server := httptest.NewServer(a)
	defer server.Close()
	g := a.Create(grantexhook.GrantCreated{Scopes: []string{"read", "é<&>\u2028\""}, PrincipalID: "user_7"})
	child := a.Create(grantexhook.GrantCreated{ParentGrantID: g.GrantID, PrincipalID: "user_8"})
	a.RevokeBy("anomaly.auto_revoked", g.GrantID)
	for _, c := range []*grantexapi.Client{inMemory, {APIKey: "any", BaseURL: server.URL}} {
		for q, want := range map[grantexapi.GrantQuery][]string{
			{}:                                {child.GrantID, g.GrantID},
			{Status: "active"}:                {child.GrantID},
			{Status: "revoked"}:               {g.GrantID},
			{PrincipalID: "user_7"}:           {g.GrantID},
			{AgentID: child.AgentID}:          {child.GrantID},
			{Status: "active", AgentID: "ag"}: nil,
		} {
			var ids []string
			for grant, err := range c.Grants(t.Context(), q) {
				require.NoError(t, err)
				ids = append(ids, grant.ID)
			}
			require.Equal(t, want, ids, q)
		}
		one, err := c.Grant(t.Context(), g.GrantID)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), one.RevokedAt, time.Minute)
		require.Equal(t, &grantexapi.Grant{
			ID: g.GrantID, AgentID: g.AgentID, PrincipalID: "user_7", DeveloperID: a.DeveloperID, Scopes: g.Scopes, Status: "revoked",
			IssuedAt: one.IssuedAt, ExpiresAt: g.ExpiresAt, RevokedAt: one.RevokedAt,
		}, one)
		_, err = c.Grant(t.Context(), "grnt_1")
		var rejected *grantexapi.Error
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, "NOT_FOUND", rejected.Code)
	}
}

// TestIntercept checks each way in which a test makes a response go wrong, as a client
// sees it.
func TestIntercept(t *testing.T) {
	tests := []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request, next http.Handler)
		took    time.Duration
		want    string // in the error; success if empty
	}{
		{"passed on", func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }, 0, ""},
		{"slow", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(time.Minute)
			next.ServeHTTP(w, r)
		}, time.Minute, ""},
		{"overtaken", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			late := httptest.NewRecorder()
			next.ServeHTTP(late, r)
			time.Sleep(time.Minute)
			io.Copy(w, late.Body)
		}, time.Minute, ""},
		{"failing", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(503) }, 0, "503"},
		{"too many", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", "18")
			w.WriteHeader(429)
			io.WriteString(w, `{"message":"Plan rate limit exceeded, retry in 18 seconds","code":"RATE_LIMIT_EXCEEDED"}`)
		}, 0, "RATE_LIMIT_EXCEEDED"},
		{"half", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			panic(http.ErrAbortHandler)
		}, 0, "EOF"},
		{"broken", func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }, 0, "EOF"},
		{"silent", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }, time.Hour, "deadline"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, c := newAPI(t)
				a.Intercept(tt.handler)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				var err error
				for _, err = range c.Grants(ctx, grantexapi.GrantQuery{}) {
				}
				require.Equal(t, tt.took, time.Since(start))
				if tt.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tt.want)
				}
				a.Intercept(nil)
				for _, err := range c.Grants(t.Context(), grantexapi.GrantQuery{}) {
					require.NoError(t, err)
				}
			})
		})
	}
}

// TestCutStream checks the lines in Intercept's documentation: a stream is cut after a
// minute, the client reconnects, and no place is lost.
func TestCutStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		var tries atomic.Int64
		a.Intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			tries.Add(1)
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		connected := 0
		for body, err := range c.Events(ctx) {
			var interrupted *grantexapi.Interrupted
			if err != nil {
				require.ErrorAs(t, err, &interrupted)
			} else if body == nil {
				connected++
			}
		}
		require.Greater(t, tries.Load(), int64(20))
		require.InDelta(t, tries.Load(), connected, 1)
	})
}

// TestClose checks that Close ends deliveries that are in flight or waiting, may be
// called twice, and leaves an API that does nothing.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		returned := false
		a.Endpoint(hooktest.Sender{Secret: secret, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			time.Sleep(time.Second)
			returned = true
		})}, grantexhook.TypeGrantRevoked)
		a.Schedule(func(e grantexhook.RawEvent, _ string) []time.Duration { return []time.Duration{0, time.Hour} })
		g := a.Create(grantexhook.GrantCreated{})
		a.Revoke(g.GrantID)
		synctest.Wait()
		start := time.Now()
		a.Close()
		require.True(t, returned)
		require.Equal(t, time.Second, time.Since(start))
		a.Close()

		a.Revoke(a.Create(grantexhook.GrantCreated{}).GrantID)
		a.Endpoint(hooktest.Sender{Secret: secret, Handler: http.NotFoundHandler()})
		a.Create(grantexhook.GrantCreated{})
		_, err := c.List(t.Context())
		require.ErrorContains(t, err, "hooktest: the server is closed")
	})
}

// TestCloseWaits checks that no goroutine of the API is left after Close.
func TestCloseWaits(t *testing.T) {
	a := hooktest.NewAPI()
	a.Endpoint(hooktest.Sender{Secret: secret, URL: "http://127.0.0.1:1"}, "x.y")
	for range 1000 {
		a.Publish(hooktest.Event{Type: "x.y"})
	}
	a.Close()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	require.NotContains(t, string(stacks), "hooktest.(*API).deliver")
}
