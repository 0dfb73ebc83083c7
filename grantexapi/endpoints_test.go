package grantexapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// TestCreateKeepsTheSecret checks that the secret, which is shown once, survives a field
// that can't be decoded.
func TestCreateKeepsTheSecret(t *testing.T) {
	tests := []struct{ name, beside string }{
		{"time as a number", `"createdAt":1763900000`},
		{"time as text", `"createdAt":"yesterday"`},
		{"events as text", `"events":"grant.revoked"`},
		{"URL as an object", `"url":{}`},
		{"no more", `"x":0`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(201, `{`+tt.beside+`,"id":"wh_1","secret":"`+secret+`"}`))
			e, err := a.client().Create(t.Context(), "https://example.com/hook", "grant.revoked")
			require.NoError(t, err)
			require.Equal(t, &grantexapi.Endpoint{ID: "wh_1", Secret: secret}, e)
		})
	}
}

func TestDeleteTakesAnyJSON(t *testing.T) {
	for _, body := range []string{"", "{}", `{"deleted":true}`, "null"} {
		require.NoError(t, remove(t.Context(), newAPI(t, says(200, body)).client()), body)
	}
}

func TestArgumentsAreRejected(t *testing.T) {
	deliveries := func(c *grantexapi.Client, id string) error {
		_, err := collect(c.Deliveries(t.Context(), id, ""))
		return err
	}
	rotate := func(c *grantexapi.Client, id string) error { _, err := c.Rotate(t.Context(), id); return err }
	remove := func(c *grantexapi.Client, id string) error { return c.Delete(t.Context(), id) }
	withStatus := func(c *grantexapi.Client, status string) error {
		_, err := collect(c.Deliveries(t.Context(), "wh_1", status))
		return err
	}
	createWith := func(url string, events ...string) func(*grantexapi.Client, string) error {
		return func(c *grantexapi.Client, _ string) error {
			_, err := c.Create(t.Context(), url, events...)
			return err
		}
	}
	tests := []struct {
		name string
		call func(c *grantexapi.Client, id string) error
		id   string
		want string
	}{
		{"create without URL", createWith("", "grant.revoked"), "", "grantexapi: Create needs a URL"},
		{"create without events", createWith("https://example.com/hook"), "", "grantexapi: Create needs a URL and at least one event type"},
		{"delete nothing", remove, "", "grantexapi: the endpoint ID is empty"},
		{"delete .", remove, ".", `grantexapi: "." is not a valid endpoint ID`},
		{"delete ..", remove, "..", `grantexapi: ".." is not a valid endpoint ID`},
		{"deliveries of nothing", deliveries, "", "grantexapi: the endpoint ID is empty"},
		{"deliveries of ..", deliveries, "..", `grantexapi: ".." is not a valid endpoint ID`},
		{"other status", withStatus, "bogus", `grantexapi: unknown delivery status "bogus"; use StatusPending, StatusDelivered, StatusFailed, or "" for all`},
		{"status in capitals", withStatus, "DELIVERED", `grantexapi: unknown delivery status "DELIVERED"`},
		{"status and more", withStatus, "failed&page=1", `grantexapi: unknown delivery status "failed&page=1"`},
		{"rotate nothing", rotate, "", "grantexapi: the endpoint ID is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(200, "{}"))
			err := tt.call(a.client(), tt.id)
			require.ErrorContains(t, err, tt.want)
			require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
			require.Empty(t, a.lines())
		})
	}
}

func TestEndpointIDIsEscaped(t *testing.T) {
	tests := []struct{ name, id, want string }{
		{"plain", "wh_01M843ZES2T1NK9TZ8APKA6WR4", "wh_01M843ZES2T1NK9TZ8APKA6WR4"},
		{"way up", "a/../b", "a%2F..%2Fb"},
		{"way up and out", "../../x", "..%2F..%2Fx"},
		{"slash", "/", "%2F"},
		{"query", "x?y", "x%3Fy"},
		{"fragment", "x#y", "x%23y"},
		{"percent", "%2e%2e", "%252e%252e"},
		{"space and line end", "x y\r\n", "x%20y%0D%0A"},
		{"other alphabet", "é", "%C3%A9"},
		{"backslash", `..\x`, "..%5Cx"},
		{"three dots", "...", "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(204, ""), says(200, `{"deliveries":[],"total":0,"page":1}`))
			require.NoError(t, a.client().Delete(t.Context(), tt.id))
			_, err := collect(a.client().Deliveries(t.Context(), tt.id, "failed"))
			require.NoError(t, err)
			require.Equal(t, []string{
				"DELETE /v1/webhooks/" + tt.want,
				"GET /v1/webhooks/" + tt.want + "/deliveries?page=1&pageSize=100&status=failed",
			}, a.lines())
		})
	}
}

func TestRotate(t *testing.T) {
	_, named := exchanges(t)
	const old = "wh_01M843VCGTHNK0T0CBS60Y08QK"
	a := newAPI(t, named["webhooks-list"], named["webhook-create-ok-all"])
	twin, err := a.client().Rotate(t.Context(), old)
	require.NoError(t, err)
	require.Equal(t, grantexhook.Secret("beedb152689d4f6a942dbea656eab2e197a16734ac4700ba"), twin.Secret)
	require.Equal(t, []string{"GET /v1/webhooks", "POST /v1/webhooks"}, a.lines())
	require.JSONEq(t, `{"url":"http://127.0.0.1:9191/flaky/2/a","events":["grant.created","token.issued","grant.revoked"]}`, a.bodies[1])
}

func TestRotateFails(t *testing.T) {
	_, named := exchanges(t)
	const known = "wh_01M843VCGTHNK0T0CBS60Y08QK"
	tests := []struct {
		name, id string
		answers  []http.Handler
		status   int
		code     string
		maybe    bool
		unsaid   bool // that nothing was changed, since no change was tried
		asks     int
	}{
		{"unknown", "wh_01AAAAAAAAAAAAAAAAAAAAAAAA", []http.Handler{named["webhooks-list"]}, 404, "NOT_FOUND", false, false, 1},
		{"unknown ..", "wh_..", []http.Handler{named["webhooks-list"]}, 404, "NOT_FOUND", false, false, 1},
		{"none at all", known, []http.Handler{named["webhooks-list-empty"]}, 404, "NOT_FOUND", false, false, 1},
		{"plan limit", known, []http.Handler{named["webhooks-list"], named["create-402-plan-limit"]}, 402, "PLAN_LIMIT_EXCEEDED", false, false, 2},
		{"rate limit", known, []http.Handler{named["webhooks-list"], named["create-429-plan-bucket"]}, 429, "RATE_LIMIT_EXCEEDED", false, false, 2},
		{"list rejected", known, []http.Handler{named["plan-bucket-list-101"]}, 429, "RATE_LIMIT_EXCEEDED", false, true, 1},
		{"proxy", known, []http.Handler{named["webhooks-list"], says(502, "")}, 502, "", true, true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, tt.answers...)
			twin, err := a.client().Rotate(t.Context(), tt.id)
			require.Nil(t, twin)
			requireRefused(t, err, tt.status, tt.code)
			require.Len(t, a.lines(), tt.asks)
			if tt.maybe {
				require.ErrorIs(t, err, grantexapi.ErrMaybeCreated)
			} else {
				require.NotErrorIs(t, err, grantexapi.ErrMaybeCreated)
			}
			require.Equal(t, !tt.unsaid, strings.Contains(err.Error(), "nothing was changed"), err)
		})
	}
}

// TestRotateFindsNothing checks that what Rotate finds out by itself isn't attributed to
// the API.
func TestRotateFindsNothing(t *testing.T) {
	tests := []struct{ name, list, want string }{
		{"unknown", `[]`, `grantexapi: no endpoint has the ID "wh_1"; nothing was changed`},
		{"no events", `[{"id":"wh_1","url":"https://example.com"}]`, `grantexapi: the API lists the endpoint "wh_1" without a URL or events; nothing was changed`},
		{"no URL", `[{"id":"wh_1","events":["grant.revoked"]}]`, `grantexapi: the API lists the endpoint "wh_1" without a URL or events; nothing was changed`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(200, `{"webhooks":`+tt.list+`}`))
			_, err := a.client().Rotate(t.Context(), "wh_1")
			require.EqualError(t, err, tt.want)
			require.Len(t, a.lines(), 1)
		})
	}
}

func TestEndpointShowsNoSecret(t *testing.T) {
	e := grantexapi.Endpoint{ID: "wh_1", URL: "https://example.com", Events: []string{"grant.revoked"}, Secret: secret}
	requireHidden(t, secret, e, &e, []grantexapi.Endpoint{e}, []*grantexapi.Endpoint{&e}, struct{ E *grantexapi.Endpoint }{&e}, map[string]any{"k": &e})
	requireNotShown(t, secret, fmt.Sprintf("%v %+[1]v %#[1]v", struct{ e *grantexapi.Endpoint }{&e}), "%T", e)
	require.Equal(t, "{wh_1 https://example.com [grant.revoked] [redacted] 0001-01-01 00:00:00 +0000 UTC}", fmt.Sprint(e))
	require.Regexp(t, `^grantexapi.Endpoint{ID:"wh_1", .* Secret:\[redacted\], `, fmt.Sprintf("%#v", &e))
	require.Contains(t, fmt.Sprintf("%+v", &e), "{ID:wh_1 URL:https://example.com Events:[grant.revoked] Secret:[redacted]")
}

func TestEndpointEncodes(t *testing.T) {
	e := grantexapi.Endpoint{ID: "wh_1"}
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.NotContains(t, string(text), "secret")

	require.NoError(t, json.Unmarshal([]byte(`{"secret":"`+secret+`"}`), &e))
	require.Equal(t, secret, string(e.Secret))
	text, err = json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(text), `"secret":"[redacted]"`)
}
