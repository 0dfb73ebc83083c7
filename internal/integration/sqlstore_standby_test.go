//go:build unix

package integration

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// The test checks that an event isn't reported as done before a synchronous standby has
// its mark. A commit whose wait for the standby was canceled is visible already.
func TestSQLStoreWaitsForAStandby(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	server := newPrivatePostgres(t, "synchronous_standby_names=missing")
	local := openPostgres(t, server.url("synchronous_commit=local"))
	newSQLStore(t, local, sqlstore.PostgreSQL)
	noWork := func(*sql.Tx) error { return nil }
	marks := map[string]func(context.Context, *sqlstore.Store, string) error{
		"Done": func(ctx context.Context, s *sqlstore.Store, id string) error { return s.Done(ctx, id, dispatcherKeep) },
		"Tx":   func(ctx context.Context, s *sqlstore.Store, id string) error { return s.Tx(ctx, id, noWork) },
	}
	store, err := sqlstore.New(openPostgres(t, server.url()), sqlstore.PostgreSQL, nil)
	require.NoError(t, err)
	for name, mark := range marks {
		t.Run(name, func(t *testing.T) {
			canceled := func(call func(context.Context) error) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
				defer cancel()
				require.Error(t, call(ctx))
			}
			canceled(func(ctx context.Context) error { return mark(ctx, store, name) })
			require.Eventually(t, func() (found bool) {
				err := local.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM grantexhook_events WHERE id = $1 AND token = 0)", name).Scan(&found)
				return err == nil && found
			}, patience, 5*time.Millisecond)
			canceled(func(ctx context.Context) error {
				_, _, err := store.Claim(ctx, name, time.Hour)
				return err
			})
			canceled(func(ctx context.Context) error { return store.Tx(ctx, name, noWork) })
		})
	}
}
