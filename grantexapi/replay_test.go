package grantexapi_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, s)
	require.NoError(t, err)
	return parsed
}

// replay responds to a call as the real API did, and requires that the request is the
// recorded one.
func replay(t *testing.T, e exchange, call func(*grantexapi.Client) error) error {
	t.Helper()
	a := newAPI(t, e)
	c := a.client()
	c.APIKey = grantexhook.Secret(e.apiKey())
	err := call(c)
	require.Len(t, a.asked, 1)
	want, err2 := url.Parse(e.Request.Path)
	require.NoError(t, err2)
	r := a.asked[0]
	require.Equal(t, e.Request.Method, r.Method)
	require.Equal(t, want.EscapedPath(), r.URL.EscapedPath())
	for _, name := range []string{"status", "agentId", "principalId"} {
		require.Equal(t, want.Query()[name], r.URL.Query()[name])
	}
	if e.Request.Body == "" {
		require.Empty(t, a.bodies[0])
	} else {
		require.JSONEq(t, e.Request.Body, a.bodies[0])
	}
	for _, kv := range e.Request.Headers {
		require.Equal(t, kv[1], r.Header.Get(kv[0]))
	}
	return err
}

func TestCreateReplayed(t *testing.T) {
	_, named := exchanges(t)
	e := named["webhook-create-ok-all"]
	require.NoError(t, replay(t, e, func(c *grantexapi.Client) error {
		got, err := c.Create(t.Context(), "http://127.0.0.1:9191/ok/all", "grant.created", "grant.revoked", "token.issued")
		require.Equal(t, &grantexapi.Endpoint{
			ID:        "wh_01M843FY8CJPK8WASNGA0PFDVS",
			URL:       "http://127.0.0.1:9191/ok/all",
			Events:    []string{"grant.created", "grant.revoked", "token.issued"},
			Secret:    "beedb152689d4f6a942dbea656eab2e197a16734ac4700ba",
			CreatedAt: at(t, "2026-11-23T11:43:35.697Z"),
		}, got)
		return err
	}))
}

func TestCreateRejectedReplayed(t *testing.T) {
	tests := []struct {
		name, url string
		events    []string
		status    int
		code      string
	}{
		{"create-400-invalid-event", "http://127.0.0.1:9191/ok/x", []string{"grant.created", "grant.exploded", "x y"}, 400, "BAD_REQUEST"},
		{"create-400-ftp-url", "ftp://127.0.0.1/x", []string{"grant.created"}, 400, "BAD_REQUEST"},
		{"create-400-garbage-url", "not a url", []string{"grant.created"}, 400, "BAD_REQUEST"},
		{"create-400-userinfo-url", "http://user:pw@127.0.0.1:9191/ok/x", []string{"grant.created"}, 400, "BAD_REQUEST"},
		{"limits-create-31", "http://127.0.0.1:9191/ok/l30", []string{"grant.revoked"}, 429, "BAD_REQUEST"},
		{"create-429-plan-bucket", "http://127.0.0.1:9191/ok/l99", []string{"grant.revoked"}, 429, "RATE_LIMIT_EXCEEDED"},
		{"create-402-plan-limit", "http://127.0.0.1:9191/ok/l99", []string{"grant.revoked"}, 402, "PLAN_LIMIT_EXCEEDED"},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := replay(t, named[tt.name], func(c *grantexapi.Client) error {
				_, err := c.Create(t.Context(), tt.url, tt.events...)
				return err
			})
			requireRefused(t, err, tt.status, tt.code)
			require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
		})
	}
}

func TestListReplayed(t *testing.T) {
	_, named := exchanges(t)
	require.NoError(t, replay(t, named["webhooks-list-empty"], func(c *grantexapi.Client) error {
		got, err := c.List(t.Context())
		require.Empty(t, got)
		return err
	}))
	require.NoError(t, replay(t, named["webhooks-list"], func(c *grantexapi.Client) error {
		got, err := c.List(t.Context())
		require.Len(t, got, 24)
		require.Equal(t, grantexapi.Endpoint{
			ID:        "wh_01M843ZES2T1NK9TZ8APKA6WR4",
			URL:       "http://127.0.0.1:9191/ok/x",
			Events:    []string{"grant.created"},
			CreatedAt: at(t, "2026-11-23T11:52:04.130Z"),
		}, got[0])
		require.Equal(t, "http://127.0.0.1:9191/ok/token?x=1&y=%C3%A9#frag", got[19].URL)
		require.True(t, slices.IsSortedFunc(got, func(a, b grantexapi.Endpoint) int { return b.CreatedAt.Compare(a.CreatedAt) }), "newest first")
		return err
	}))
	requireRefused(t, replay(t, named["webhooks-list-401-bad-key"], func(c *grantexapi.Client) error { return list(t.Context(), c) }), 401, "UNAUTHORIZED")
	requireRefused(t, replay(t, named["plan-bucket-list-101"], func(c *grantexapi.Client) error { return list(t.Context(), c) }), 429, "RATE_LIMIT_EXCEEDED")
}

func TestDeleteReplayed(t *testing.T) {
	tests := []struct {
		name, id string
		status   int // 0 if deleted
		code     string
	}{
		{"webhook-delete-204", "wh_01M843ZES2T1NK9TZ8APKA6WR4", 0, ""},
		{"webhook-delete-while-pending", "wh_01M845GSRF4HEBWD39DYS3WYNX", 0, ""},
		{"webhook-delete-404-again", "wh_01M843ZES2T1NK9TZ8APKA6WR4", 404, "NOT_FOUND"},
		{"webhook-delete-404-unknown", "wh_01AAAAAAAAAAAAAAAAAAAAAAAA", 404, "NOT_FOUND"},
		{"webhook-delete-nul", "wh_\x00", 500, "INTERNAL_ERROR"},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := replay(t, named[tt.name], func(c *grantexapi.Client) error { return c.Delete(t.Context(), tt.id) })
			if tt.status == 0 {
				require.NoError(t, err)
				return
			}
			requireRefused(t, err, tt.status, tt.code)
		})
	}
}

func TestDeliveriesReplayed(t *testing.T) {
	tests := []struct {
		name, id, status string
		want             []string // the IDs
	}{
		{"deliveries-failed-endpoint", "wh_01M843VCFHKMKWPY8PET92W635", "", []string{"whd_01M843VCJHQZPHEA8RT7A57JSC"}},
		{"deliveries-delivered-endpoint", "wh_01M843VCEDYRHVYK286HASGH16", "", []string{"whd_01M843VCJSD3BQHW0KCZV35T2C", "whd_01M843VCJDD7WMEA55ESBMQDHH"}},
		{"deliveries-flaky-endpoint", "wh_01M843VCGTHNK0T0CBS60Y08QK", "", []string{"whd_01M843VCK0BCFCX77GHCGG5058", "whd_01M843VCJYKJDTY5XAB743RMAQ"}},
		{"deliveries-empty", "wh_01M843VCEXNEWGME0SREE7EDT7", "", nil},
		{"deliveries-ok-status-pending", "wh_01M843VCEDYRHVYK286HASGH16", grantexapi.StatusPending, nil},
		{"deliveries-ok-status-delivered", "wh_01M843VCEDYRHVYK286HASGH16", grantexapi.StatusDelivered,
			[]string{"whd_01M843VCJSD3BQHW0KCZV35T2C", "whd_01M843VCJDD7WMEA55ESBMQDHH"}},
		{"deliveries-ok-status-failed", "wh_01M843VCEDYRHVYK286HASGH16", grantexapi.StatusFailed, nil},
		{"deliveries-failed-status-failed", "wh_01M843VCFHKMKWPY8PET92W635", grantexapi.StatusFailed, []string{"whd_01M843VCJHQZPHEA8RT7A57JSC"}},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, replay(t, named[tt.name], func(c *grantexapi.Client) error {
				got, err := collect(c.Deliveries(t.Context(), tt.id, tt.status))
				require.Equal(t, tt.want, ids(got))
				require.True(t, slices.IsSortedFunc(got, func(a, b grantexapi.Delivery) int { return b.CreatedAt.Compare(a.CreatedAt) }), "newest first")
				return err
			}))
		})
	}
}

func TestDeliveriesRejectedReplayed(t *testing.T) {
	tests := []struct {
		name, id string
		want     int
		code     string
	}{
		{"deliveries-404-unknown", "wh_01AAAAAAAAAAAAAAAAAAAAAAAA", 404, "NOT_FOUND"},
		{"deliveries-404-other-developer", "wh_01M843VCEDYRHVYK286HASGH16", 404, "NOT_FOUND"},
		{"deliveries-401", "wh_01M843VCEDYRHVYK286HASGH16", 401, "UNAUTHORIZED"},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := replay(t, named[tt.name], func(c *grantexapi.Client) error {
				got, err := collect(c.Deliveries(t.Context(), tt.id, ""))
				require.Empty(t, got)
				return err
			})
			requireRefused(t, err, tt.want, tt.code)
		})
	}
}

func TestDeliveryFields(t *testing.T) {
	_, named := exchanges(t)
	failed, err := collect(newAPI(t, named["deliveries-failed-endpoint"]).client().Deliveries(t.Context(), "wh_1", ""))
	require.NoError(t, err)
	require.Equal(t, []grantexapi.Delivery{{
		ID:          "whd_01M843VCJHQZPHEA8RT7A57JSC",
		EndpointID:  "wh_01M843VCFHKMKWPY8PET92W635",
		EventID:     "evt_01M843VCJBX59VN92Y0MNSTV3N",
		EventType:   grantexhook.TypeGrantCreated,
		Status:      grantexapi.StatusFailed,
		Attempts:    5,
		MaxAttempts: 5,
		URL:         "http://127.0.0.1:9191/fail/a",
		LastError:   "HTTP 500",
		CreatedAt:   at(t, "2026-11-23T11:49:50.801Z"),
	}}, failed)
	require.True(t, failed[0].DeliveredAt.IsZero())

	delivered, err := collect(newAPI(t, named["deliveries-delivered-endpoint"]).client().Deliveries(t.Context(), "wh_1", ""))
	require.NoError(t, err)
	require.Empty(t, delivered[0].LastError)
	require.Equal(t, at(t, "2026-11-23T11:49:58.928Z"), delivered[0].DeliveredAt)
}

// TestDeliveriesPagesReplayed checks two pages of one delivery each, as the real API
// cuts them.
func TestDeliveriesPagesReplayed(t *testing.T) {
	_, named := exchanges(t)
	first, second, beyond := named["deliveries-page1-size1"], named["deliveries-page2-size1"], named["deliveries-page3-size1-beyond-end"]
	nothing := says(200, strings.Replace(beyond.Response.Body, `"page":3`, `"page":2`, 1))
	tests := []struct {
		name  string
		pages []http.Handler
		want  []string
	}{
		{"both", []http.Handler{first, second, beyond}, []string{"whd_01M843VCJSD3BQHW0KCZV35T2C", "whd_01M843VCJDD7WMEA55ESBMQDHH"}},
		{"empty before the total", []http.Handler{first, nothing, beyond}, []string{"whd_01M843VCJSD3BQHW0KCZV35T2C"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, tt.pages...)
			got, err := collect(a.client().Deliveries(t.Context(), "wh_1", ""))
			require.NoError(t, err)
			require.Equal(t, tt.want, ids(got))
			require.Equal(t, []string{
				"GET /v1/webhooks/wh_1/deliveries?page=1&pageSize=100",
				"GET /v1/webhooks/wh_1/deliveries?page=2&pageSize=100",
			}, a.lines())
		})
	}
}
