package main

import (
	"bytes"
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

const secret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"

// TestServe checks that deliveries in flight are still handled when the server stops.
func TestServe(t *testing.T) {
	const forged = "x\nFORGED \x1b[2J\u2028"
	tests := []struct {
		name   string
		secret string
		event  grantexhook.Payload
		status int
		log    string
	}{
		{"granted", secret, grantexhook.GrantCreated{GrantID: forged, AgentID: forged, Scopes: []string{forged}}, 200,
			`grant "x\nFORGED \x1b[2J\u2028": agent "x\nFORGED \x1b[2J\u2028" may use ["x\nFORGED \x1b[2J\u2028"]`},
		{"revoked", secret, grantexhook.GrantRevoked{GrantID: forged, Cascade: true}, 200, `grant "x\nFORGED \x1b[2J\u2028": revoked, descendants included: true`},
		{"issued", secret, grantexhook.TokenIssued{GrantID: forged, TokenID: forged}, 200, `grant "x\nFORGED \x1b[2J\u2028": token "x\nFORGED \x1b[2J\u2028" is valid until `},
		{"a stranger", "another secret", grantexhook.GrantRevoked{}, 401, `reason=bad_signature`},
	}
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logged.Reset()
			h, err := handler(secret)
			require.NoError(t, err)
			l, err := net.Listen("tcp", "localhost:0")
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			served := make(chan error, 1)
			go func() {
				served <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					stop()
					for deadline := time.Now().Add(5 * time.Second); accepts(l) && time.Now().Before(deadline); {
					}
					h.ServeHTTP(w, r)
				}))
			}()

			report := hooktest.Sender{Secret: tt.secret, URL: "http://" + l.Addr().String() + "/webhooks/grantex", Attempts: 1}.Deliver(t, tt.event)
			require.NoError(t, report[0].Err)
			require.Equal(t, tt.status, report[0].Status)
			require.NoError(t, <-served)
			require.Contains(t, logged.String(), tt.log)
			require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("\n")), logged.String())
		})
	}
}

func accepts(l net.Listener) bool {
	conn, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func TestRun(t *testing.T) {
	t.Setenv("GRANTEX_WEBHOOK_SECRET", "")
	require.ErrorContains(t, run(t.Context()), "the secret is empty")
	t.Setenv("GRANTEX_WEBHOOK_SECRET", secret)
	t.Setenv("ADDR", "nowhere")
	require.ErrorContains(t, run(t.Context()), "nowhere")
}
