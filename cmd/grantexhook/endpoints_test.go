package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testKey = "dev-api-key-local"

// An exchange is a recorded call of the real API.
type exchange struct {
	Name     string `json:"name"`
	Response struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"response"`
}

// ServeHTTP responds like the real API.
func (e exchange) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for _, h := range e.Response.Headers {
		w.Header().Set(h[0], h[1])
	}
	w.WriteHeader(e.Response.Status)
	io.WriteString(w, e.Response.Body)
}

func exchanges(t *testing.T) map[string]exchange {
	t.Helper()
	named := map[string]exchange{}
	for _, file := range []string{"api.jsonl", "grants.jsonl"} {
		text, err := os.ReadFile("../../grantexapi/testdata/" + file)
		require.NoError(t, err)
		for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
			var e exchange
			require.NoError(t, dec.Decode(&e))
			named[e.Name] = e
		}
	}
	return named
}

// An api responds to each call with the recording for its method.
type api struct {
	*httptest.Server
	calls []string // method, path and body
	keys  map[string]bool
}

func serveAPI(t *testing.T, answers map[string]string) *api {
	t.Helper()
	recorded := exchanges(t)
	a := &api{keys: map[string]bool{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.calls = append(a.calls, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+string(body)))
		a.keys[r.Header.Get("Authorization")] = true
		e, ok := recorded[answers[r.Method]]
		if !ok {
			t.Errorf("no recording for %s", r.Method)
		}
		e.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) session() session {
	return session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": a.URL}}
}

func TestAPI(t *testing.T) {
	const id = "wh_01M843ZES2T1NK9TZ8APKA6WR4"
	const revokedGrant = "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"
	const page = "GET /v1/webhooks/wh_1/deliveries?page=1&pageSize=100"
	get := func(recording string) map[string]string { return map[string]string{"GET": recording} }
	tests := []struct {
		name, args string
		answers    map[string]string // by method
		status     int
		calls      []string
	}{
		{"list", "endpoints list", map[string]string{"GET": "webhooks-list"}, exitDone, []string{"GET /v1/webhooks"}},
		{"list-json", "endpoints list -json", map[string]string{"GET": "webhooks-list"}, exitDone, []string{"GET /v1/webhooks"}},
		{"list-empty", "endpoints list", map[string]string{"GET": "webhooks-list-empty"}, exitDone, []string{"GET /v1/webhooks"}},
		{"list-wrong-key", "endpoints list", map[string]string{"GET": "webhooks-list-401-bad-key"}, exitFailed, []string{"GET /v1/webhooks"}},
		{"list-too-often", "endpoints list", map[string]string{"GET": "plan-bucket-list-101"}, exitFailed, []string{"GET /v1/webhooks"}},
		{"create", "endpoints create http://127.0.0.1:9191/ok/all", map[string]string{"POST": "webhook-create-ok-all"}, exitDone,
			[]string{`POST /v1/webhooks {"url":"http://127.0.0.1:9191/ok/all","events":["grant.created","grant.revoked","token.issued"]}`}},
		{"create-json", "endpoints create -json http://h grant.revoked", map[string]string{"POST": "webhook-create-ok-all"}, exitDone,
			[]string{`POST /v1/webhooks {"url":"http://h","events":["grant.revoked"]}`}},
		{"create-wrong-type", "endpoints create http://h grant.exploded", map[string]string{"POST": "create-400-invalid-event"}, exitFailed,
			[]string{`POST /v1/webhooks {"url":"http://h","events":["grant.exploded"]}`}},
		{"create-plan-limit", "endpoints create http://h x.y", map[string]string{"POST": "create-402-plan-limit"}, exitFailed,
			[]string{`POST /v1/webhooks {"url":"http://h","events":["x.y"]}`}},
		{"create-maybe", "endpoints create http://h x.y", map[string]string{"POST": "webhook-delete-nul"}, exitFailed,
			[]string{`POST /v1/webhooks {"url":"http://h","events":["x.y"]}`}},
		{"delete", "endpoints delete " + id, map[string]string{"DELETE": "webhook-delete-204"}, exitDone, []string{"DELETE /v1/webhooks/" + id}},
		{"delete-json", "endpoints delete -json " + id, map[string]string{"DELETE": "webhook-delete-204"}, exitDone, []string{"DELETE /v1/webhooks/" + id}},
		{"delete-unknown", "endpoints delete x", map[string]string{"DELETE": "webhook-delete-404-unknown"}, exitFailed, []string{"DELETE /v1/webhooks/x"}},
		{"rotate", "endpoints rotate " + id, map[string]string{"GET": "webhooks-list", "POST": "webhook-create-ok-all"}, exitDone,
			[]string{"GET /v1/webhooks", `POST /v1/webhooks {"url":"http://127.0.0.1:9191/ok/x","events":["grant.created"]}`}},
		{"rotate-json", "endpoints rotate -json " + id, map[string]string{"GET": "webhooks-list", "POST": "webhook-create-ok-all"}, exitDone,
			[]string{"GET /v1/webhooks", `POST /v1/webhooks {"url":"http://127.0.0.1:9191/ok/x","events":["grant.created"]}`}},
		{"rotate-unknown", "endpoints rotate x", map[string]string{"GET": "webhooks-list"}, exitFailed, []string{"GET /v1/webhooks"}},
		{"deliveries", "deliveries wh_1", get("deliveries-flaky-endpoint"), exitDone, []string{page}},
		{"deliveries-failed", "deliveries wh_1 -status failed", get("deliveries-failed-status-failed"), exitDone, []string{page + "&status=failed"}},
		{"deliveries-json", "deliveries -json wh_1", get("deliveries-flaky-endpoint"), exitDone, []string{page}},
		{"deliveries-none", "deliveries wh_1", get("deliveries-empty"), exitDone, []string{page}},
		{"deliveries-unknown", "deliveries wh_1", get("deliveries-404-unknown"), exitFailed, []string{page}},
		{"grants", "grants", get("grants-list-all"), exitDone, []string{"GET /v1/grants"}},
		{"grants-json", "grants -json -status revoked", get("grants-list-revoked"), exitDone, []string{"GET /v1/grants?status=revoked"}},
		{"grants-of-both", "grants -principal user_1 -agent ag_1 -status active", get("grants-list-agent"), exitDone,
			[]string{"GET /v1/grants?agentId=ag_1&principalId=user_1&status=active"}},
		{"grants-none", "grants -status revoked", get("grants-list-revoked-none"), exitDone, []string{"GET /v1/grants?status=revoked"}},
		{"grants-too-often", "grants", get("grants-list-429"), exitFailed, []string{"GET /v1/grants"}},
		{"grant-revoked", "grant " + revokedGrant, get("grant-get-after-revoke-root"), exitFailed, []string{"GET /v1/grants/" + revokedGrant}},
		{"grant-revoked-json", "grant -json " + revokedGrant, get("grant-get-after-revoke-root"), exitFailed, []string{"GET /v1/grants/" + revokedGrant}},
		{"grant-unknown", "grant grnt_1", get("grant-get-unknown"), exitFailed, []string{"GET /v1/grants/grnt_1"}},
		{"grant-unknown-json", "grant grnt_1 -json", get("grant-get-unknown"), exitFailed, []string{"GET /v1/grants/grnt_1"}},
		{"grant-wrong-key", "grant grnt_1", get("grant-get-bad-key"), exitFailed, []string{"GET /v1/grants/grnt_1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := serveAPI(t, tt.answers)
			r := a.session().run(t.Context(), strings.Fields(tt.args)...)
			require.Equal(t, tt.status, r.status, r)
			require.Equal(t, tt.calls, a.calls)
			require.Equal(t, map[string]bool{"Bearer " + testKey: true}, a.keys)
			require.NotContains(t, r.stdout+r.stderr, testKey)
			golden(t, "api-"+tt.name, r.String())
		})
	}
}

// TestDeliveriesGoOn checks that a rate limit delays a long list and never ends it.
func TestDeliveriesGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all, window = 1500, 2
		calls := 0
		s := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}}
		s.dial = serveMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls++; calls%(window+1) == 0 {
				refuse(http.StatusTooManyRequests, `{"message":"Slow down"}`, "Retry-After", "42")(w, r)
				return
			}
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			var list []string
			for i := range 100 {
				list = append(list, fmt.Sprintf(`{"id":"whd_%d","eventId":"evt_%d"}`, page, (page-1)*100+i))
			}
			fmt.Fprintf(w, `{"deliveries":[%s],"total":%d,"page":%d}`, strings.Join(list, ","), all, page)
		}))
		start := time.Now()
		r := s.run(t.Context(), "deliveries", "-json", "wh_1")
		require.Equal(t, exitDone, r.status, r.stderr)
		require.Equal(t, all, strings.Count(r.stdout, "\n"))
		for i := range all {
			require.Equal(t, 1, strings.Count(r.stdout, fmt.Sprintf(`"evt_%d"`, i)))
		}
		require.Equal(t, strings.Repeat("the API returned 429: Slow down; continuing in 42s\n", 7), r.stderr)
		require.Equal(t, 7*42*time.Second, time.Since(start))
	})
}

// TestDeliveriesGiveUp checks that a lasting limit, or an error that waiting can't
// fix, ends the command.
func TestDeliveriesGiveUp(t *testing.T) {
	tests := []struct {
		name   string
		answer http.Handler
		took   time.Duration
	}{
		{"too-often", exchanges(t)["plan-bucket-list-101"], 4 * 59 * time.Second},
		{"unavailable", refuse(503, "<title>Sorry</title>"), 4 * 5 * time.Second},
		{"asked-to-wait-forever", refuse(429, "", "Retry-After", "99999999999999999"), 4 * 15 * time.Minute},
		{"forbidden", refuse(403, "", "Retry-After", "60"), 0},
		{"not-json", refuse(200, "<html>"), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}, dial: serveMemory(t, tt.answer)}
				start := time.Now()
				r := s.run(t.Context(), "deliveries", "wh_1")
				require.Equal(t, exitFailed, r.status)
				require.Equal(t, tt.took, time.Since(start))
				golden(t, "api-deliveries-"+tt.name, r.String())
			})
		})
	}
}

// TestDeliveriesInterrupted checks that an interrupt also ends the wait.
func TestDeliveriesInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}, dial: serveMemory(t, refuse(429, "", "Retry-After", "60"))}
		start := time.Now()
		r := s.run(ctx, "deliveries", "wh_1")
		require.Equal(t, exitFailed, r.status)
		require.Equal(t, 20*time.Second, time.Since(start))
	})
}

// TestTryAgain checks that the hint names a time that makes sense.
func TestTryAgain(t *testing.T) {
	tests := []struct {
		name, after, want string
	}{
		{"given", "59", "hint: try again in 59s\n"},
		{"not given", "", "hint: try again in a minute\n"},
		{"none", "0", "hint: try again in a minute\n"},
		{"forever", "99999999999999999", "hint: try again in an hour\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(refuse(429, "", "Retry-After", tt.after))
			defer s.Close()
			r := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": s.URL}}.run(t.Context(), "endpoints", "list")
			require.Equal(t, exitFailed, r.status)
			require.Contains(t, r.stderr, tt.want)
		})
	}
}

// TestHostileAPI checks that what the API returns can't act on the terminal.
func TestHostileAPI(t *testing.T) {
	const evil = `\u001b[31m\nforged \u009b2J \u202eRTL`
	endpoint := `{"id":"wh_` + evil + `","url":"http://h/` + evil + `","events":["` + evil + `"],"secret":"` + evil + `","createdAt":"2026-11-23T12:01:56.867Z"}`
	delivery := `{"id":"whd_1","eventId":"` + evil + `","eventType":"` + evil + `","status":"` + evil + `","lastError":"` + evil + `","url":"` + evil + `"}`
	grant := `{"grantId":"grnt_1","agentId":"` + evil + `","principalId":"` + evil + `","scopes":["` + evil + `"],"status":"` + evil + `"}`
	answers := map[string]string{
		"GET /v1/grants":                   `{"grants":[` + grant + `]}`,
		"GET /v1/grants/grnt_1":            grant,
		"GET /v1/webhooks":                 `{"webhooks":[` + endpoint + `]}`,
		"POST /v1/webhooks":                endpoint,
		"GET /v1/webhooks/wh_1/deliveries": `{"deliveries":[` + delivery + `],"total":1,"page":1}`,
		"DELETE /v1/webhooks/wh_1":         `{}`,
		"GET /v1/webhooks/wh_2/deliveries": "",
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := answers[r.Method+" "+r.URL.Path]; text != "" {
			io.WriteString(w, text)
			return
		}
		refuse(403, `{"message":"`+evil+`","code":"`+evil+`","requestId":"`+evil+`"}`)(w, r)
	}))
	defer s.Close()
	for _, args := range []string{"endpoints list", "endpoints create http://h", "endpoints delete wh_1", "deliveries wh_1", "deliveries wh_2", "grants", "grant grnt_1"} {
		for _, asJSON := range []bool{false, true} {
			t.Run(fmt.Sprint(args, " ", asJSON), func(t *testing.T) {
				words := strings.Fields(args)
				if asJSON {
					words = append(words, "-json")
				}
				r := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": s.URL}}.run(t.Context(), words...)
				for line := range strings.Lines(r.stdout + r.stderr) {
					require.False(t, strings.HasPrefix(line, "forged"), "%q", line)
					require.False(t, strings.ContainsFunc(strings.TrimSuffix(line, "\n"), isStrange), "%q", line)
				}
				if asJSON && r.status == exitDone && args != "endpoints delete wh_1" {
					require.True(t, json.Valid([]byte(r.stdout)))
					require.Contains(t, r.stdout, evil, "it's the same text, escaped")
				}
			})
		}
	}
}

// TestSecretAlone checks that a shell can take the secret from standard output.
func TestSecretAlone(t *testing.T) {
	a := serveAPI(t, map[string]string{"POST": "webhook-create-ok-all"})
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(testKey+"\n"), 0o600))
	s := session{env: map[string]string{"GRANTEX_URL": a.URL}}
	r := s.run(t.Context(), "endpoints", "create", "-api-key-file", file, "http://h")
	require.Equal(t, "beedb152689d4f6a942dbea656eab2e197a16734ac4700ba\n", r.stdout)
	require.NotContains(t, r.stderr, "beedb15")
	require.Contains(t, a.keys, "Bearer "+testKey)
}

// TestSecretThatCouldNotBeWritten checks that the hint names the endpoint whose
// secret is lost.
func TestSecretThatCouldNotBeWritten(t *testing.T) {
	a := serveAPI(t, map[string]string{"POST": "webhook-create-ok-all"})
	s := a.session()
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"endpoints", "create", "http://h"}, func(name string) string { return s.env[name] }, nil, brokenPipe{}, &stderr)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr.String(), "broken pipe\n"+
		"hint: the secret is lost: run 'grantexhook endpoints delete wh_01M843FY8CJPK8WASNGA0PFDVS' and start over\n")
}

// TestCommandsNeedAKey covers every command that calls the API.
func TestCommandsNeedAKey(t *testing.T) {
	for _, args := range []string{"endpoints list", "endpoints create http://h", "endpoints delete x", "endpoints rotate x", "deliveries x", "grants", "grant x", "forward http://h"} {
		r := withSecret().run(t.Context(), strings.Fields(args)...)
		require.Equal(t, exitUsage, r.status, args)
		require.Contains(t, r.stderr, "there is no API key", args)
	}
}
