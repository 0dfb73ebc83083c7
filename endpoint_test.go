package grantexhook_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// pages answers as the API does for a list of n deliveries, to which grow more
// come before each page after the first.
func pages(n, grow int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.FormValue("page"))
		size, _ := strconv.Atoi(r.FormValue("pageSize"))
		total := n + grow*(page-1)
		list := []map[string]string{}
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			list = append(list, map[string]string{"id": strconv.Itoa(total - i)})
		}
		json.NewEncoder(w).Encode(map[string]any{"deliveries": list, "total": total, "page": page, "pageSize": size})
	}
}

func TestDeliveriesPages(t *testing.T) {
	tests := []struct {
		name                       string
		n, grow                    int
		want, wantUnique, wantAsks int
	}{
		{"none", 0, 0, 0, 0, 1},
		{"one", 1, 0, 1, 1, 1},
		{"full page", 100, 0, 100, 100, 1},
		{"one more", 101, 0, 101, 101, 2},
		{"three", 250, 0, 250, 250, 3},
		{"growing", 250, 7, 264, 250, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, pages(tt.n, tt.grow))
			seq := a.client().Deliveries(t.Context(), "wh_1", "")
			require.Empty(t, a.lines(), "nothing is asked before the loop")
			for round := range 2 {
				got, err := collect(seq)
				require.NoError(t, err)
				require.Len(t, got, tt.want)
				unique := ids(got)
				slices.Sort(unique)
				require.Len(t, slices.Compact(unique), tt.wantUnique)
				require.Len(t, a.lines(), (round+1)*tt.wantAsks)
			}
		})
	}
}

func TestDeliveriesBreak(t *testing.T) {
	for _, n := range []int{1, 100, 101} {
		a := newAPI(t, pages(1000, 0))
		seen := 0
		for _, err := range a.client().Deliveries(t.Context(), "wh_1", "") {
			require.NoError(t, err)
			if seen++; seen == n {
				break
			}
		}
		require.Len(t, a.lines(), (n+99)/100)
	}
}

func TestDeliveriesError(t *testing.T) {
	a := newAPI(t, pages(1000, 0), says(503, "busy"))
	var got []grantexhook.Delivery
	var errs []error
	for d, err := range a.client().Deliveries(t.Context(), "wh_1", grantexhook.StatusPending) {
		got, errs = append(got, d), append(errs, err)
	}
	require.Len(t, got, 101)
	require.Zero(t, got[100])
	require.NoError(t, errs[99])
	requireRefused(t, errs[100], 503, "")
	require.Equal(t, "GET /v1/webhooks/wh_1/deliveries?page=2&pageSize=100&status=pending", a.lines()[1])

	for range a.client().Deliveries(t.Context(), "", "") {
		break // at the error, as anywhere else
	}
}

// A page that cannot be the one asked for must not end the list, nor come twice.
func TestDeliveriesRefusesPages(t *testing.T) {
	tests := []struct{ name, second string }{
		{"the first again", `"total":101,"page":1`},
		{"no page", `"total":101`},
		{"no total", `"page":2`},
		{"total null", `"total":null,"page":2`},
		{"negative total", `"total":-1,"page":2`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, pages(101, 0), says(200, `{"deliveries":[{"id":"1"}],`+tt.second+`}`))
			got, err := collect(a.client().Deliveries(t.Context(), "wh_1", ""))
			require.ErrorContains(t, err, "/deliveries?page=2&pageSize=100: the API does not answer with such JSON")
			require.Len(t, got, 100)
		})
	}
}

// The secret is shown once, whatever becomes of the rest of the answer.
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
			require.Equal(t, &grantexhook.Endpoint{ID: "wh_1", Secret: secret}, e)
		})
	}
}

func TestDeleteTakesAnyJSON(t *testing.T) {
	for _, body := range []string{"", "{}", `{"deleted":true}`, "null"} {
		require.NoError(t, remove(t.Context(), newAPI(t, says(200, body)).client()), body)
	}
}

func TestArgumentsAreRefused(t *testing.T) {
	deliveries := func(c *grantexhook.Client, id string) error {
		_, err := collect(c.Deliveries(t.Context(), id, ""))
		return err
	}
	rotate := func(c *grantexhook.Client, id string) error { _, err := c.Rotate(t.Context(), id); return err }
	remove := func(c *grantexhook.Client, id string) error { return c.Delete(t.Context(), id) }
	withStatus := func(c *grantexhook.Client, status string) error {
		_, err := collect(c.Deliveries(t.Context(), "wh_1", status))
		return err
	}
	createWith := func(url string, events ...string) func(*grantexhook.Client, string) error {
		return func(c *grantexhook.Client, _ string) error {
			_, err := c.Create(t.Context(), url, events...)
			return err
		}
	}
	tests := []struct {
		name string
		call func(c *grantexhook.Client, id string) error
		id   string
		want string
	}{
		{"create without URL", createWith("", "grant.revoked"), "", "grantexhook: Create needs a URL"},
		{"create without events", createWith("https://example.com/hook"), "", "grantexhook: Create needs a URL and at least one type of event"},
		{"delete nothing", remove, "", "grantexhook: the endpoint ID is empty"},
		{"delete .", remove, ".", `grantexhook: "." is not an endpoint ID`},
		{"delete ..", remove, "..", `grantexhook: ".." is not an endpoint ID`},
		{"deliveries of nothing", deliveries, "", "grantexhook: the endpoint ID is empty"},
		{"deliveries of ..", deliveries, "..", `grantexhook: ".." is not an endpoint ID`},
		{"other status", withStatus, "bogus", `grantexhook: "bogus" is no status of a delivery; give "pending", "delivered", "failed" or none`},
		{"status in capitals", withStatus, "DELIVERED", `grantexhook: "DELIVERED" is no status`},
		{"status and more", withStatus, "failed&page=1", `grantexhook: "failed&page=1" is no status`},
		{"rotate nothing", rotate, "", "grantexhook: the endpoint ID is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, says(200, "{}"))
			err := tt.call(a.client(), tt.id)
			require.ErrorContains(t, err, tt.want)
			require.NotErrorIs(t, err, grantexhook.ErrMaybeCreated)
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
		{"list refused", known, []http.Handler{named["plan-bucket-list-101"]}, 429, "RATE_LIMIT_EXCEEDED", false, true, 1},
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
				require.ErrorIs(t, err, grantexhook.ErrMaybeCreated)
			} else {
				require.NotErrorIs(t, err, grantexhook.ErrMaybeCreated)
			}
			require.Equal(t, !tt.unsaid, strings.Contains(err.Error(), "nothing was changed"), err)
		})
	}
}

// What Rotate finds out by itself, it does not say of the API.
func TestRotateFindsNothing(t *testing.T) {
	tests := []struct{ name, list, want string }{
		{"unknown", `[]`, `grantexhook: no endpoint in the list has the ID "wh_1"; nothing was changed`},
		{"no events", `[{"id":"wh_1","url":"https://example.com"}]`, `grantexhook: the list has no URL or no events for the endpoint "wh_1"; nothing was changed`},
		{"no URL", `[{"id":"wh_1","events":["grant.revoked"]}]`, `grantexhook: the list has no URL or no events for the endpoint "wh_1"; nothing was changed`},
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
	e := grantexhook.Endpoint{ID: "wh_1", URL: "https://example.com", Events: []string{"grant.revoked"}, Secret: secret}
	requireHidden(t, secret, e, &e, []grantexhook.Endpoint{e}, []*grantexhook.Endpoint{&e}, struct{ E *grantexhook.Endpoint }{&e}, map[string]any{"k": &e})
	requireNotShown(t, secret, fmt.Sprintf("%v %+[1]v %#[1]v", struct{ e *grantexhook.Endpoint }{&e}), "%T", e)
	require.Equal(t, "{wh_1 https://example.com [grant.revoked] [redacted] 0001-01-01 00:00:00 +0000 UTC}", fmt.Sprint(e))
	require.Regexp(t, `^grantexhook.Endpoint{ID:"wh_1", .* Secret:\[redacted\], `, fmt.Sprintf("%#v", &e))
	require.Contains(t, fmt.Sprintf("%+v", &e), "{ID:wh_1 URL:https://example.com Events:[grant.revoked] Secret:[redacted]")
}

func TestEndpointEncodes(t *testing.T) {
	e := grantexhook.Endpoint{ID: "wh_1"}
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.NotContains(t, string(text), "secret")

	require.NoError(t, json.Unmarshal([]byte(`{"secret":"`+secret+`"}`), &e))
	require.Equal(t, secret, string(e.Secret))
	text, err = json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(text), `"secret":"[redacted]"`)
}
