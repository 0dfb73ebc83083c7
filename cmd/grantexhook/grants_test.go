package main

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
)

func TestWhyEnded(t *testing.T) {
	expires := time.Date(2026, 11, 27, 16, 30, 27, 0, time.UTC)
	tests := []struct {
		name  string
		grant *grantexapi.Grant
		now   time.Time
		want  string
	}{
		{"active", &grantexapi.Grant{Status: "active", ExpiresAt: expires}, expires, ""},
		{"expired", &grantexapi.Grant{Status: "active", ExpiresAt: expires}, expires.Add(1), "expired 2026-11-27T16:30:27Z"},
		{"revoked", &grantexapi.Grant{Status: "revoked", ExpiresAt: expires, RevokedAt: expires.Add(-time.Hour)}, expires.Add(1), "revoked 2026-11-27T15:30:27Z"},
		{"status that doesn't exist yet", &grantexapi.Grant{Status: "paused", ExpiresAt: expires}, expires, "its status is paused"},
		{"unknown", nil, expires, "unknown to this account, or its agent was deleted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, whyEnded(tt.grant, tt.now)) })
	}
}

// TestGrantExpires checks the exit status of a grant before and after it expires.
func TestGrantExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}, dial: serveMemory(t, exchanges(t)["grant-get"])}
		const id = "grnt_01M8CB3BF1A2RJ54SNM0FZVHPP"
		require.Equal(t, result{exitDone, "active: expires 2026-11-27T16:30:27Z\n", ""}, s.run(t.Context(), "grant", id))
		require.Contains(t, s.run(t.Context(), "grant", "-json", id).stdout, `{"active":true,"grant":{"grantId":"`+id)
		time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
		require.Equal(t, result{exitFailed, "not active: expired 2026-11-27T16:30:27Z\n", ""}, s.run(t.Context(), "grant", id))
	})
}

// TestGrantOtherNotFound checks that a 404 of a proxy isn't taken for the API's answer.
func TestGrantOtherNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := session{env: map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}, dial: serveMemory(t, refuse(404, "<title>Oops</title>"))}
		r := s.run(t.Context(), "grant", "grnt_1")
		require.Equal(t, exitFailed, r.status)
		require.Empty(t, r.stdout)
		require.Equal(t, "grantexhook: the API returned 404: Oops\nhint: check GRANTEX_URL if it is set; an unknown ID would have the code NOT_FOUND\n", r.stderr)
	})
}

// TestGrantsInParts checks that a list appears while it arrives, and that what came
// before an error is shown.
func TestGrantsInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s session
		s.env = map[string]string{"GRANTEX_API_KEY": testKey, "GRANTEX_URL": "http://api.test"}
		s.dial = serveMemory(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"grants":[{"grantId":"grnt_0","status":"active"}`)
			for range 149 {
				io.WriteString(w, `,{"grantId":"grnt_1","status":"active"}`)
			}
			http.NewResponseController(w).Flush()
			time.Sleep(time.Minute)
			panic(http.ErrAbortHandler)
		}))
		out := &timed{start: time.Now()}
		a := &app{getenv: func(name string) string { return s.env[name] }, stdout: &output{w: out}, stderr: &output{w: io.Discard}, dial: s.dial}
		require.Equal(t, exitFailed, a.run(t.Context(), []string{"grants"}))
		require.Equal(t, map[time.Duration]int{0: 1 + 100, time.Minute: 50}, out.lines)
	})
}

// timed counts the lines that are written at a time.
type timed struct {
	start time.Time
	lines map[time.Duration]int
}

func (w *timed) Write(p []byte) (int, error) {
	if w.lines == nil {
		w.lines = map[time.Duration]int{}
	}
	for _, b := range p {
		if b == '\n' {
			w.lines[time.Since(w.start)]++
		}
	}
	return len(p), nil
}
