package hooktest_test

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// An exchange is a recorded call of the real API.
type exchange struct {
	Name    string    `json:"name"`
	At      time.Time `json:"at"`
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

func exchanges(t *testing.T, path string) (all []exchange) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for dec := json.NewDecoder(f); dec.More(); {
		var e exchange
		require.NoError(t, dec.Decode(&e))
		all = append(all, e)
	}
	return all
}

func header(pairs [][2]string) http.Header {
	h := http.Header{}
	for _, kv := range pairs {
		h.Add(kv[0], kv[1])
	}
	return h
}

// requireSame sends the recorded request and checks that the response is the recorded
// one, except for what is random. In the request, each even string of ours takes the
// place of the recorded one before it.
func (e exchange) requireSame(t *testing.T, a *hooktest.API, ours []string) (body string) {
	t.Helper()
	replace := strings.NewReplacer(ours...).Replace
	req, err := http.NewRequestWithContext(t.Context(), e.Request.Method, "https://api.grantex.dev"+replace(e.Request.Path), strings.NewReader(replace(e.Request.Body)))
	require.NoError(t, err)
	req.Header = header(e.Request.Headers)
	resp, err := a.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, masked(e.Response.Body), masked(string(text)), e.Name)
	require.Equal(t, e.Response.Status, resp.StatusCode, e.Name)
	recorded := header(e.Response.Headers)
	require.Equal(t, recorded.Get("Content-Type"), resp.Header.Get("Content-Type"), e.Name)
	require.Equal(t, recorded.Get("Content-Length"), resp.Header.Get("Content-Length"), e.Name)
	require.Equal(t, "no-store", cmp.Or(recorded.Get("Cache-Control"), resp.Header.Get("Cache-Control")), e.Name) // new since August
	return string(text)
}

var random = regexp.MustCompile(`(wh|whd|evt|tok)_[0-9A-HJKMNP-TV-Z]{26}|"createdAt":"[^"]{24}"|` +
	`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|"[0-9a-f]{48}"|"n":"[^"]{342}"|"x":"[^"]{43}"`)

// masked hides what is random in a body.
func masked(body string) string { return random.ReplaceAllString(body, "*") }

// recordedGrants are those of the recording, in the order in which they were issued.
func recordedGrants(t *testing.T, all []exchange) (grants []recordedGrant) {
	t.Helper()
	i := slices.IndexFunc(all, func(e exchange) bool { return e.Name == "grants-list-all" })
	var list struct{ Grants []recordedGrant }
	require.NoError(t, json.Unmarshal([]byte(all[i].Response.Body), &list))
	slices.Reverse(list.Grants)
	return list.Grants
}

type recordedGrant struct {
	GrantID, AgentID, PrincipalID, DeveloperID string
	Scopes                                     []string
	IssuedAt, ExpiresAt                        time.Time
}

// parents has the parents of the recorded grants that were delegated.
var parents = map[string]string{
	"grnt_01M8CB3BRGG2VK69TX0071Q1K5": "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP",
	"grnt_01M8CB3BVWYZ7MRSYZHN7E5TWE": "grnt_01M8CB3BRGG2VK69TX0071Q1K5",
}

func (g recordedGrant) create(a *hooktest.API) grantexhook.GrantCreated {
	return a.Create(grantexhook.GrantCreated{
		GrantID: g.GrantID, AgentID: g.AgentID, PrincipalID: g.PrincipalID, Scopes: g.Scopes, ExpiresAt: g.ExpiresAt, ParentGrantID: parents[g.GrantID],
	})
}

// TestAPIReplayed checks a few minutes of the real API, request by request at the
// recorded times. The responses are the same bytes, except for what is random.
func TestAPIReplayed(t *testing.T) {
	all := exchanges(t, "testdata/exchanges.jsonl")
	grants := recordedGrants(t, all)
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		a.DeveloperID = grants[0].DeveloperID
		a.Schedule(func(grantexhook.RawEvent, string) []time.Duration { return []time.Duration{time.Minute} })
		var ours []string // what takes the place of what in requests
		for _, e := range all {
			for len(grants) > 0 && grants[0].IssuedAt.Before(e.At) {
				time.Sleep(time.Until(grants[0].IssuedAt))
				g := grants[0].create(a)
				ours = append(ours, recordedToken(t, g.GrantID), a.Token(g.GrantID, ""))
				grants = grants[1:]
			}
			time.Sleep(time.Until(cmp.Or(revokedAt[e.Name], e.At)))
			if e.Name == "tokens-verify-other-account" {
				e.requireSame(t, a, nil) // the token is signed with another key
				continue
			}
			body := e.requireSame(t, a, ours)
			if e.Name == "webhook-create" {
				ours = append(ours, id(e.Response.Body), id(body))
				a.Publish(grantexhook.TokenIssued{}) // a refresh that isn't among the exchanges
			}
		}
		require.Empty(t, grants)
	})
}

// revokedAt has the times in later responses. The exchanges were over later.
var revokedAt = map[string]time.Time{"grant-delete": time.Date(2026, 11, 26, 16, 30, 29, 248e6, time.UTC)}

func id(body string) string {
	var e struct{ ID string }
	json.Unmarshal([]byte(body), &e)
	return e.ID
}

// TestAPIWebhooksReplayed checks the responses of an older Grantex to calls that create
// endpoints and list deliveries.
func TestAPIWebhooksReplayed(t *testing.T) {
	names := []string{
		"webhooks-list-empty", "webhook-create-ok-all", "webhooks-create-401-no-auth", "create-400-invalid-event", "create-400-ftp-url",
		"create-400-garbage-url", "create-400-userinfo-url", "create-400-empty-object", "create-400-empty-events", "create-400-missing-url",
		"create-400-malformed-json", "create-415-text", "create-201-extra-fields", "webhook-delete-404-unknown", "webhook-delete-empty-id",
		"unknown-route", "deliveries-empty", "deliveries-400-bad-status", "deliveries-400-status-twice", "deliveries-q-page0", "deliveries-q-page-neg",
		"deliveries-q-page-abc", "deliveries-q-page-1.5", "deliveries-q-pagesize0", "deliveries-q-page-too-big", "deliveries-q-page-empty",
		"deliveries-404-unknown", "webhook-delete-204", "webhook-delete-404-again",
	}
	all := exchanges(t, "../grantexapi/testdata/api.jsonl")
	a, _ := newAPI(t)
	var ours []string
	for _, name := range names {
		i := slices.IndexFunc(all, func(e exchange) bool { return e.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		body := all[i].requireSame(t, a, ours)
		switch name {
		case "webhook-create-ok-all": // for the deliveries of other endpoints, which had none or rejected the call
			for _, other := range []string{"wh_01M843VCEXNEWGME0SREE7EDT7", "wh_01M843VCEDYRHVYK286HASGH16"} {
				ours = append(ours, other, id(body))
			}
		case "create-201-extra-fields":
			ours = append(ours, id(all[i].Response.Body), id(body))
		}
	}
}
