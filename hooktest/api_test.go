package hooktest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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
