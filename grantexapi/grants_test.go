package grantexapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/internal/grantlist"
)

// listed returns the response to a list of n grants, as the API writes it.
func listed(n int) string {
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, `,{"grantId":"grnt_%026d","agentId":"ag_01M8CBCRV0H7GQ4XEG9GTNAAC3","principalId":"user_%d",`+
			`"developerId":"dev_01M8CBCRTPM50HZH5G9G1RTGJK","scopes":["read","write"],"status":"active",`+
			`"issuedAt":"2026-11-26T16:35:34.996Z","expiresAt":"2026-11-27T16:35:35.996Z","delegationDepth":0}`, i, i%1000)
	}
	return `{"grants":[` + strings.TrimPrefix(list.String(), ",") + `]}`
}

// serving returns a Client whose every response has this body.
func serving(body func() io.Reader) *grantexapi.Client {
	return &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(body()), Request: r}, nil
	})}}
}

func servingText(text string) *grantexapi.Client {
	return serving(func() io.Reader { return strings.NewReader(text) })
}

func grantIDs(all []grantexapi.Grant) (ids []string) {
	for _, g := range all {
		ids = append(ids, g.ID)
	}
	return ids
}

func TestGrantsReplayed(t *testing.T) {
	tests := []struct {
		name  string
		query grantexapi.GrantQuery
		want  []string
	}{
		{"grants-list-all", grantexapi.GrantQuery{}, []string{"grnt_01M8CB3BZWMWCAEYZCHRX89WHK", "grnt_01M8CB3BVWYZ7MRSYZHN7E5TWE",
			"grnt_01M8CB3BRGG2VK69TX0071Q1K5", "grnt_01M8CB3BN6C72215CA2SABGXAG", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"}},
		{"grants-list-active", grantexapi.GrantQuery{Status: "active"}, []string{"grnt_01M8CB3BZWMWCAEYZCHRX89WHK", "grnt_01M8CB3BVWYZ7MRSYZHN7E5TWE",
			"grnt_01M8CB3BRGG2VK69TX0071Q1K5", "grnt_01M8CB3BN6C72215CA2SABGXAG", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"}},
		{"grants-list-revoked-none", grantexapi.GrantQuery{Status: "revoked"}, nil},
		{"grants-list-revoked", grantexapi.GrantQuery{Status: "revoked"},
			[]string{"grnt_01M8CB3BVWYZ7MRSYZHN7E5TWE", "grnt_01M8CB3BRGG2VK69TX0071Q1K5", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"}},
		{"grants-list-agent", grantexapi.GrantQuery{AgentID: "ag_01M8CB3BASC0HA2BX7041T5AN0"}, []string{"grnt_01M8CB3BRGG2VK69TX0071Q1K5"}},
		{"grants-list-principal", grantexapi.GrantQuery{PrincipalID: "user_1"},
			[]string{"grnt_01M8CB3BVWYZ7MRSYZHN7E5TWE", "grnt_01M8CB3BRGG2VK69TX0071Q1K5", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"}},
		{"grants-list-status-active-holds-expired", grantexapi.GrantQuery{Status: "active", PrincipalID: "user_short"}, []string{"grnt_01M8CB3BZWMWCAEYZCHRX89WHK"}},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, replay(t, named[tt.name], func(c *grantexapi.Client) error {
				got, err := collect(c.Grants(t.Context(), tt.query))
				require.Equal(t, tt.want, grantIDs(got))
				return err
			}))
		})
	}
}

func TestGrantsRejectedReplayed(t *testing.T) {
	_, named := exchanges(t)
	err := replay(t, named["grants-list-429"], func(c *grantexapi.Client) error { return grants(t.Context(), c) })
	require.Equal(t, 18*time.Second, requireRefused(t, err, 429, "RATE_LIMIT_EXCEEDED").RetryAfter)
	err = replay(t, named["old-key-after-rotate"], func(c *grantexapi.Client) error { return grants(t.Context(), c) })
	requireRefused(t, err, 401, "UNAUTHORIZED")
}

func TestGrantReplayed(t *testing.T) {
	root := grantexapi.Grant{
		ID:          "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP",
		AgentID:     "ag_01M8CB3B9F5ADEBK162DJ1JMW1",
		PrincipalID: "user_1",
		DeveloperID: "dev_01M8CB3B73N2XGC6RVESQJMVXM",
		Scopes:      []string{"read", "write"},
		Status:      "active",
		IssuedAt:    at(t, "2026-11-26T16:30:27.298Z"),
		ExpiresAt:   at(t, "2026-11-27T16:30:27.305Z"),
	}
	revoked := root
	revoked.Status, revoked.RevokedAt = "revoked", at(t, "2026-11-26T16:30:29.248Z")
	_, named := exchanges(t)
	for name, want := range map[string]grantexapi.Grant{"grant-get": root, "grant-get-after-revoke-root": revoked} {
		require.NoError(t, replay(t, named[name], func(c *grantexapi.Client) error {
			got, err := c.Grant(t.Context(), root.ID)
			require.Equal(t, &want, got)
			return err
		}))
	}
}

func TestGrantRejectedReplayed(t *testing.T) {
	tests := []struct {
		name, id string
		status   int
		code     string
	}{
		{"grant-get-unknown", "grnt_01M8CB0XBHX9Y93NG4A9RGD4GZ", 404, "NOT_FOUND"},
		{"grant-get-other-account", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP", 404, "NOT_FOUND"},
		{"grant-get-agent-deleted", "grnt_01M8CB66GE2WGXDNRKS7H9PM26", 404, "NOT_FOUND"},
		{"grant-get-bad-key", "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP", 401, "UNAUTHORIZED"},
	}
	_, named := exchanges(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := replay(t, named[tt.name], func(c *grantexapi.Client) error {
				got, err := c.Grant(t.Context(), tt.id)
				require.Nil(t, got)
				return err
			})
			requireRefused(t, err, tt.status, tt.code)
		})
	}
}

func TestGrantRejectsResponses(t *testing.T) {
	tests := []struct{ name, body string }{
		{"other grant", `{"grantId":"grnt_2","status":"active"}`},
		{"no ID", `{"status":"active"}`},
		{"no status", `{"grantId":"grnt_1"}`},
		{"list", `{"grants":[{"grantId":"grnt_1","status":"active"}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := servingText(tt.body).Grant(t.Context(), "grnt_1")
			require.ErrorContains(t, err, "GET /v1/grants/grnt_1: unexpected response")
		})
	}
}

func TestGrantEscapesTheID(t *testing.T) {
	a := newAPI(t, says(404, ""))
	for _, id := range []string{"a/b", "../webhooks", "a?b#c", "é\x00"} {
		_, err := a.client().Grant(t.Context(), id)
		requireRefused(t, err, 404, "")
	}
	require.Equal(t, []string{
		"GET /v1/grants/a%2Fb", "GET /v1/grants/..%2Fwebhooks", "GET /v1/grants/a%3Fb%23c", "GET /v1/grants/%C3%A9%00",
	}, a.lines())
	for id, want := range map[string]string{"": "the grant ID is empty", ".": "not a valid grant ID", "..": "not a valid grant ID"} {
		_, err := a.client().Grant(t.Context(), id)
		require.ErrorContains(t, err, want)
	}
	require.Len(t, a.lines(), 4)
}

func TestGrantsQuery(t *testing.T) {
	a := newAPI(t, says(200, listed(0)))
	for _, q := range []grantexapi.GrantQuery{{}, {Status: "active"}, {Status: "revoked", AgentID: "a&b", PrincipalID: "c d"}} {
		_, err := collect(a.client().Grants(t.Context(), q))
		require.NoError(t, err)
	}
	_, err := collect(a.client().Grants(t.Context(), grantexapi.GrantQuery{Status: "expired"}))
	require.EqualError(t, err, `grantexapi: unknown grant status "expired"; use "active", "revoked", or "" for all`)
	require.Equal(t, []string{
		"GET /v1/grants", "GET /v1/grants?status=active", "GET /v1/grants?agentId=a%26b&principalId=c+d&status=revoked",
	}, a.lines())
}

// TestGrantsTolerates checks responses that the API doesn't send yet.
func TestGrantsTolerates(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	const one = `{"grantId":"a","status":"active"}`
	tests := []struct {
		name, body string
		want       []string
	}{
		{"empty", ` { "grants" : [ ] } ` + "\r\n", nil},
		{"members before", `{"total":1,"page":{"grants":[1]},"x":[],"grants":[` + one + `]}`, []string{"a"}},
		{"members after", `{"grants":[` + one + `],"next":null,"Grants":7,"more":[{}]}`, []string{"a"}},
		{"unknown fields", `{"grants":[{"new":[{"grantId":"b"}],"grantId":"a","status":"paused"}]}`, []string{"a"}},
		{"long ID", `{"grants":[{"grantId":"` + long + `","status":"active"},` + one + `]}`, []string{long, "a"}},
		{"ID twice", `{"grants":[` + one + `,` + one + `]}`, []string{"a", "a"}},
		{"escaped name", `{"gr\u0061nts":[` + one + `]}`, []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := collect(servingText(tt.body).Grants(t.Context(), grantexapi.GrantQuery{}))
			require.NoError(t, err)
			require.Equal(t, tt.want, grantIDs(got))
		})
	}
}

// TestGrantsRejectsResponses checks that a response of another kind is an error, and
// never a short list.
func TestGrantsRejectsResponses(t *testing.T) {
	const one = `{"grantId":"a","status":"active"}`
	const wrong = "unexpected response (not the expected JSON, or cut off); is Client.BaseURL right?"
	const large = "the response has an element of more than 1048576 bytes; is Client.BaseURL right?"
	tests := []struct {
		name   string
		answer http.HandlerFunc
		n      int // grants before the error
		want   string
	}{
		{"empty", says(200, ""), 0, wrong},
		{"no content", says(204, ""), 0, wrong},
		{"page", says(200, "<html>sign in</html>"), 0, wrong},
		{"other object", says(200, "{}"), 0, wrong},
		{"other case", says(200, `{"Grants":[]}`), 0, wrong},
		{"array", says(200, "["+one+"]"), 0, wrong},
		{"null", says(200, "null"), 0, wrong},
		{"null for the array", says(200, `{"grants":null}`), 0, wrong},
		{"object for the array", says(200, `{"grants":{"a":`+one+`}}`), 0, wrong},
		{"null among them", says(200, `{"grants":[`+one+`,null]}`), 1, wrong},
		{"no ID", says(200, `{"grants":[`+one+`,{"status":"active"}]}`), 1, wrong},
		{"no status", says(200, `{"grants":[`+one+`,{"grantId":"b"}]}`), 1, wrong},
		{"not a time", says(200, `{"grants":[`+one+`,{"grantId":"b","status":"active","expiresAt":"`+secret+`"}]}`), 1, wrong},
		{"grants twice", says(200, `{"grants":[`+one+`],"grants":[`+one+`]}`), 1, wrong},
		{"no comma", says(200, `{"grants":[`+one+one+`]}`), 1, wrong},
		{"comma at the end", says(200, `{"grants":[`+one+`,]}`), 1, wrong},
		{"wrong bracket", says(200, `{"grants":[`+one+`}`), 1, wrong},
		{"comma after the list", says(200, `{"grants":[`+one+`],}`), 1, wrong},
		{"bad member after it", says(200, `{"grants":[`+one+`],"a":tru}`), 1, wrong},
		{"more after it", says(200, `{"grants":[`+one+`]}{}`), 1, wrong},
		{"bracket after it", says(200, `{"grants":[`+one+`]}]`), 1, wrong},
		{"cut", cut(200, `{"grants":[`+one+`,`), 1, "reading the response: unexpected EOF"},
		{"cut after the end", cut(200, `{"grants":[`+one+`]}`), 1, "reading the response: unexpected EOF"},
		{"large grant", says(200, `{"grants":[`+one+`,{"grantId":"`+strings.Repeat("x", 2<<20)+`"}]}`), 1, large},
		{"large member", says(200, `{"a":"`+strings.Repeat("x", 2<<20)+`","grants":[]}`), 0, large},
		{"large name", says(200, `{"`+strings.Repeat("x", 2<<20)+`":1,"grants":[]}`), 0, large},
		{"large gap", says(200, `{"grants":[`+one+strings.Repeat(" ", 2<<20)+`]}`), 1, large},
		{"large end", says(200, `{"grants":[`+one+`]}`+strings.Repeat(" ", 2<<20)), 1, large},
		{"other protocol", raw("HTTP/1.1 101 Switching Protocols\r\n\r\n"), 0, "unexpected status 101; is Client.BaseURL right?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, tt.answer)
			got, err := collect(a.client().Grants(t.Context(), grantexapi.GrantQuery{}))
			require.Len(t, got, tt.n)
			require.ErrorContains(t, err, "grantexapi: GET /v1/grants: "+tt.want)
			require.NotContains(t, err.Error(), secret)
			require.Len(t, a.lines(), 1)
		})
	}
}

// TestGrantsCut checks that a list that ends at any byte is an error, whether the
// connection breaks or not.
func TestGrantsCut(t *testing.T) {
	whole := listed(2)
	for n := range len(whole) {
		for end, want := range map[io.Reader]string{strings.NewReader(""): "cut off", &breaking{}: "reading the response: unexpected EOF"} {
			c := serving(func() io.Reader { return io.MultiReader(strings.NewReader(whole[:n]), end) })
			got, err := collect(c.Grants(t.Context(), grantexapi.GrantQuery{}))
			require.ErrorContains(t, err, want, "after %d bytes", n)
			require.Len(t, got, strings.Count(whole[:n], `"delegationDepth":0}`))
		}
	}
}

// A breaking connection fails once, and has an end from then on.
type breaking struct{ broken bool }

func (b *breaking) Read([]byte) (int, error) {
	if b.broken {
		return 0, io.EOF
	}
	b.broken = true
	return 0, io.ErrUnexpectedEOF
}

// TestGrantsEndsOnce checks that an error comes last, with a zero Grant.
func TestGrantsEndsOnce(t *testing.T) {
	n, errs := 0, 0
	for g, err := range servingText(listed(3)[:900]).Grants(t.Context(), grantexapi.GrantQuery{}) {
		require.Zero(t, errs)
		if err != nil {
			require.Zero(t, g)
			errs++
			continue
		}
		n++
	}
	require.Equal(t, 1, errs)
	require.Equal(t, 2, n)
}

func TestGrantsBreak(t *testing.T) {
	a := newAPI(t, says(200, listed(1000)))
	seq := a.client().Grants(t.Context(), grantexapi.GrantQuery{})
	require.Empty(t, a.lines(), "there's no call before the loop")
	for range 2 {
		for g, err := range seq {
			require.NoError(t, err)
			require.Equal(t, "grnt_00000000000000000000000000", g.ID)
			break
		}
	}
	require.Len(t, a.lines(), 2)
}

// TestGrantsArrive checks that a grant is yielded before the next one has arrived.
func TestGrantsArrive(t *testing.T) {
	r, w := io.Pipe()
	next, stop := iter.Pull2(serving(func() io.Reader { return r }).Grants(t.Context(), grantexapi.GrantQuery{}))
	defer stop()
	for i, part := range []string{`{"grants":[{"grantId":"0","status":"active"}`, `,{"grantId":"1","status":"active"}`} {
		go io.WriteString(w, part)
		g, err, ok := next()
		require.True(t, ok)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), g.ID)
	}
}

// TestGrantsIsNotBoundByTheClock checks that a list may take longer than any other call
// as long as something comes, and that the time of the loop's body doesn't count.
func TestGrantsIsNotBoundByTheClock(t *testing.T) {
	const one = `{"grantId":"a","status":"active"}`
	tests := []struct {
		name        string
		gap, body   time.Duration
		own         *http.Client
		want        int
		wantElapsed time.Duration
	}{
		{"slow API", 29 * time.Second, 0, nil, 10, 10 * 29 * time.Second},
		{"slow loop", 0, time.Minute, nil, 10, 10 * time.Minute},
		{"API that stops", 31 * time.Second, 0, nil, 0, 30 * time.Second},
		{"own Timeout", 29 * time.Second, 0, &http.Client{Timeout: time.Minute}, 2, time.Minute},
		{"own without a Timeout", 10 * time.Minute, 0, &http.Client{}, 10, 100 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					before := `{"grants":[`
					for range 10 {
						io.WriteString(w, before)
						http.NewResponseController(w).Flush()
						select {
						case <-time.After(tt.gap):
						case <-r.Context().Done():
							return
						}
						io.WriteString(w, one)
						before = ","
					}
					io.WriteString(w, "]}")
				}))
				c := &grantexapi.Client{APIKey: apiKey, BaseURL: "http://pipe"}
				if tt.own == nil {
					grantexapi.SetTransport(t, transport)
				} else {
					c.HTTPClient = &http.Client{Timeout: tt.own.Timeout, Transport: transport}
				}
				start, n := time.Now(), 0
				var err error
				for _, err = range c.Grants(t.Context(), grantexapi.GrantQuery{}) {
					if err == nil {
						n++
						time.Sleep(tt.body)
					}
				}
				require.Equal(t, tt.want, n)
				require.Equal(t, tt.wantElapsed, time.Since(start))
				if tt.want < 10 {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// TestGrantsEndsWithItsContext checks that the sequence ends although more grants have
// arrived already.
func TestGrantsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range servingText(listed(2)).Grants(ctx, grantexapi.GrantQuery{}) {
		if cancel(); err == nil {
			n++
		}
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
	require.Equal(t, 1, n)
}

// TestGrantsMemory checks that a hostile response can't grow the memory.
func TestGrantsMemory(t *testing.T) {
	for name, start := range map[string]string{
		"grant":  `{"grants":[{"grantId":"`,
		"scopes": `{"grants":[{"scopes":["`,
		"member": `{"a":"`,
		"name":   `{"`,
	} {
		t.Run(name, func(t *testing.T) {
			c := serving(func() io.Reader { return io.MultiReader(strings.NewReader(start), letters{}) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.ErrorContains(t, grants(t.Context(), c), "more than 1048576 bytes")
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
		})
	}
}

// letters is a text without an end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("x"), min(len(p), 4096))), nil
}

func TestGrantList(t *testing.T) {
	_, named := exchanges(t)
	require.NoError(t, replay(t, named["grants-list-active"], func(c *grantexapi.Client) error {
		all, err := collect(grantlist.Active(t.Context(), c))
		require.Len(t, all, 5)
		require.Equal(t, grantlist.Grant{
			ID:          "grnt_01M8CB3BZWMWCAEYZCHRX89WHK",
			DeveloperID: "dev_01M8CB3B73N2XGC6RVESQJMVXM",
			Status:      "active",
			ExpiresAt:   at(t, "2026-11-26T16:30:32.840Z"),
		}, all[0])
		return err
	}))
	_, err := collect(grantlist.Active(t.Context(), newAPI(t, named["grants-list-429"]).client()))
	requireRefused(t, err, 429, "RATE_LIMIT_EXCEEDED")
	_, err = collect(grantlist.Active(t.Context(), servingText(`{"grants":[{"status":"active"}]}`)))
	require.ErrorContains(t, err, "unexpected response")
}

// TestGrantListGarbage checks what package grants promises about a list.
func TestGrantListGarbage(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	race := slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
	if race && !strings.HasPrefix(runtime.Version(), "go1.26") {
		t.Skip("encoding/json uses a sync.Pool since Go 1.27, which forgets at random under the race detector")
	}
	const n = 2_000
	text := listed(n)
	c := servingText(text)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, err := range grantlist.Active(t.Context(), c) {
		require.NoError(t, err)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/n, uint64(150))
}

func BenchmarkGrants(b *testing.B) {
	const n = 10_000
	c := servingText(listed(n))
	b.Run("whole", func(b *testing.B) { benchmarkList(b, n, c.Grants(b.Context(), grantexapi.GrantQuery{})) })
	b.Run("lean", func(b *testing.B) { benchmarkList(b, n, grantlist.Active(b.Context(), c)) })
}

// benchmarkList reports the cost of a grant.
func benchmarkList[T any](b *testing.B, n int, seq iter.Seq2[T, error]) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		for _, err := range seq {
			require.NoError(b, err)
		}
	}
	runtime.ReadMemStats(&after)
	grants := float64(b.N * n)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/grants, "B/grant")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/grants, "ns/grant")
}

// FuzzGrants compares the list with what encoding/json makes of the whole document.
func FuzzGrants(f *testing.F) {
	_, named := exchanges(f)
	f.Add(named["grants-list-revoked"].Response.Body)
	for _, text := range []string{
		`{"grants":[{"grantId":"a","status":"active"}],"a":[1,{"b":null}]}`, `{"a":{"grants":[]},"grants":[ ]} `,
		`{"grants":[{"grantId":"a","status":"active"},]}`, `{"grants":[],"grants":[]}`, `{"grants":null}`, `{"Grants":[]}`, "\ufeff{}", "[]", `{"grants":[]}x`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := collect(servingText(text).Grants(t.Context(), grantexapi.GrantQuery{}))
		want, ok := wholeList(text)
		require.Equal(t, ok, err == nil, "%v", err)
		if ok && len(want) > 0 {
			require.Equal(t, want, got)
		}
		lean, err := collect(grantlist.Active(t.Context(), servingText(text)))
		if !ok {
			return // what's wrong may be in a field that the lean list ignores
		}
		require.NoError(t, err)
		require.Len(t, lean, len(want))
		for i, g := range want {
			require.Equal(t, grantlist.Grant{ID: g.ID, DeveloperID: g.DeveloperID, Status: g.Status, ExpiresAt: g.ExpiresAt}, lean[i])
		}
	})
}

// wholeList decodes a list in one piece.
func wholeList(text string) (list []grantexapi.Grant, ok bool) {
	var members map[member]json.RawMessage
	if json.Unmarshal([]byte(text), &members) != nil {
		return nil, false
	}
	lists := 0
	for m, value := range members {
		if m.name != "grants" {
			continue
		}
		if lists++; lists > 1 || value[0] != '[' || json.Unmarshal(value, &list) != nil {
			return nil, false
		}
	}
	for _, g := range list {
		if g.ID == "" || g.Status == "" {
			return nil, false
		}
	}
	return list, lists == 1
}

// A member is the name of an object's member. As a map's key, it keeps members that
// have the same name apart.
type member struct {
	name string
	nth  int64
}

var members atomic.Int64

func (m *member) UnmarshalText(name []byte) error {
	*m = member{string(name), members.Add(1)}
	return nil
}
