package main

import (
	"bytes"
	"log"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

const secret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"

// forged tries to start a line of its author's choice and to clear the terminal.
const forged = "x\nFORGED \x1b[2J\u2028"

// TestHandler checks the status of each delivery and what it logs.
func TestHandler(t *testing.T) {
	h, err := handler(secret)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	defer server.Close()
	good := hooktest.Sender{Secret: secret, URL: server.URL + "/webhooks/grantex", Attempts: 1}
	stranger, stale, legacy, lost := good, good, good, good
	stranger.Secret, stale.Skew, legacy.Legacy, lost.URL = "another secret", -time.Hour, true, server.URL

	created := grantexhook.GrantCreated{GrantID: "grnt_1", AgentID: "ag_1", Scopes: []string{"calendar:read"}}
	once := hooktest.NewEvent(created)
	expires := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		sender hooktest.Sender
		event  grantexhook.Payload
		status int
		log    string // nothing else is logged
	}{
		{"granted", good, once, 200, `grant "grnt_1": agent "ag_1" may use ["calendar:read"]`},
		{"granted, again", good, once, 200, ""},
		{"revoked", good, grantexhook.GrantRevoked{GrantID: "grnt_1", Cascade: true}, 200, `grant "grnt_1": revoked, descendants included: true`},
		{"issued", good, grantexhook.TokenIssued{GrantID: "grnt_1", TokenID: "tok_1", ExpiresAt: expires}, 200,
			`grant "grnt_1": token "tok_1" is valid until 2026-11-24 12:00:00 +0000 UTC`},
		{"a new type", good, hooktest.Event{Type: "agent.suspended"}, 200, ""},
		{"foreign text, granted", good, grantexhook.GrantCreated{GrantID: forged, AgentID: forged, Scopes: []string{forged}}, 200,
			`grant "x\nFORGED \x1b[2J\u2028": agent "x\nFORGED \x1b[2J\u2028" may use ["x\nFORGED \x1b[2J\u2028"]`},
		{"foreign text, revoked", good, grantexhook.GrantRevoked{GrantID: forged}, 200, `grant "x\nFORGED \x1b[2J\u2028": revoked, descendants included: false`},
		{"foreign text, issued", good, grantexhook.TokenIssued{GrantID: forged, TokenID: forged, ExpiresAt: expires}, 200,
			`grant "x\nFORGED \x1b[2J\u2028": token "x\nFORGED \x1b[2J\u2028" is valid until 2026-11-24 12:00:00 +0000 UTC`},
		{"a stranger", stranger, created, 401, `reason=bad_signature`},
		{"stale", stale, created, 401, `reason=stale`},
		{"without a timestamp", legacy, created, 401, `reason=no_signature`},
		{"wrong path", lost, created, 404, ""},
	}
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logged.Reset()
			report := tt.sender.Deliver(t, tt.event)
			require.NoError(t, report[0].Err)
			require.Equal(t, tt.status, report[0].Status)
			require.Contains(t, logged.String(), tt.log)
			require.LessOrEqual(t, bytes.Count(logged.Bytes(), []byte("\n")), 1, "log lines")
			require.Equal(t, tt.log == "", logged.Len() == 0, logged.String())
		})
	}
}

func TestHandlerWithoutSecret(t *testing.T) {
	_, err := handler("")
	require.ErrorContains(t, err, "the secret is empty")
}
