package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/riverinbox"
)

// The test checks that an inbox stores data that doesn't fit the handler's type, and
// logs that once at Error. An event whose type has no handler is never malformed.
func TestInboxAndMalformedEvents(t *testing.T) {
	tests := []struct {
		name, rest string // after the id
		malformed  bool
	}{
		{"data of another type", `"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":4711}`, true},
		{"data that isn't an object", `"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":["user_of_mine"]`, true},
		{"data missing", `"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z"`, true},
		{"createdAt a number", `"type":"grant.revoked","createdAt":4711,"data":{"grantId":"grnt_1"}`, true},
		{"a type without a handler", `"type":"a.b","createdAt":"2026-11-23T12:01:56.867Z","data":4711`, false},
	}
	onEachInbox(t, func(t *testing.T, p place) {
		var log inboxLog
		var d grantexhook.Dispatcher
		grantexhook.On(&d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil })
		in := newInbox(t, p, d.Dispatch, riverinbox.Options{
			Log:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
			Configure: func(c *river.Config) { c.MaxAttempts, c.RetryPolicy = 3, noWait{} },
		})
		in.start(t)
		srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
		defer srv.Close()
		malformed := 0
		for i, test := range tests {
			status, answer, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, fmt.Appendf(nil, `{"id":"evt_%d",%s}`, i, test.rest))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status, test.name)
			require.Equal(t, "stored", answer, test.name)
			if test.malformed {
				malformed++
			}
		}
		require.Eventually(t, func() bool {
			return in.count(t, rivertype.JobStateDiscarded) == malformed && in.count(t, rivertype.JobStateCompleted) == len(tests)-malformed
		}, 30*time.Second, 50*time.Millisecond)
		for i, test := range tests {
			line := regexp.MustCompile(fmt.Sprintf(`level=ERROR msg="riverinbox: event malformed[^"]*" event=evt_%d type=grant.revoked `, i))
			require.Equal(t, test.malformed, len(line.FindAllString(log.String(), -1)) == 1, "%s: %s", test.name, log.String())
		}
		require.Equal(t, malformed, strings.Count(log.String(), "event malformed"))
		require.NotContains(t, log.String(), "4711")
		require.NotContains(t, log.String(), "user_of_mine")
	})
}
