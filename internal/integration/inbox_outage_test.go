package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/sender"
	"grantex.dev/grantexhook/riverinbox"
)

// The test checks that an inbox whose database is down responds with 503 while Grantex
// still waits, and that a retry is stored once and handled.
func TestOutageOfAnInbox(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	for _, down := range []string{proxyRefuses, proxyHangs} {
		t.Run(down, func(t *testing.T) {
			t.Parallel()
			config, err := pgxpool.ParseConfig(postgres(t, nil))
			require.NoError(t, err)
			p := proxyFor(t, config.ConnConfig)
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			river, err := riverinbox.New(riverpgxv5.New(pool), drop, &riverinbox.Options{Timeout: time.Second, Log: slog.New(slog.DiscardHandler)})
			in, err := wrap(river, err, pool.Close)
			require.NoError(t, err)
			t.Cleanup(in.close)
			require.NoError(t, in.Migrate(t.Context()))
			in.start(t)
			srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
			defer srv.Close()
			send := func(id int) int {
				ctx, cancel := context.WithTimeout(t.Context(), sender.Timeout)
				defer cancel()
				status, _, err := post(ctx, srv.Client(), srv.URL, inboxSecret, eventBody(fmt.Sprint("evt_", id), "grnt_1"))
				require.NoError(t, err)
				return status
			}

			require.Equal(t, http.StatusOK, send(1))
			p.set(down)
			for id := range 2 {
				require.Equal(t, http.StatusServiceUnavailable, send(1+id))
			}
			p.set(proxyPasses)
			for id := range 3 {
				require.Eventually(t, func() bool { return send(1+id) == http.StatusOK }, 20*time.Second, 50*time.Millisecond)
			}
			// An event that was being handled when the database went down is retried
			// as if the process had been killed.
			require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == 3 }, 2*time.Minute, 50*time.Millisecond)
		})
	}
}
