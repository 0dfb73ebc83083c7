package integration

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// The test checks that the error says so if the context of a call ends, whatever error
// the driver returns.
func TestContextEndsWhileWaiting(t *testing.T) {
	t.Parallel()
	nothing := func(*sql.Tx) error { return nil }
	calls := []struct {
		name string
		call func(ctx context.Context, s *sqlstore.Store) error
	}{
		{"Claim sweeps", func(ctx context.Context, s *sqlstore.Store) error {
			_, _, err := s.Claim(ctx, "evt_1", time.Minute)
			return err
		}},
		{"Claim", func(ctx context.Context, s *sqlstore.Store) error { // the first one has swept
			_, _, err := s.Claim(ctx, "evt_1", time.Minute)
			return err
		}},
		{"Done", func(ctx context.Context, s *sqlstore.Store) error { return s.Done(ctx, "evt_1", time.Minute) }},
		{"Release", func(ctx context.Context, s *sqlstore.Store) error { return s.Release(ctx, "evt_1", 1) }},
		{"Tx marks", func(ctx context.Context, s *sqlstore.Store) error { return s.Tx(ctx, "evt_1", nothing) }},
		{"Migrate", func(ctx context.Context, s *sqlstore.Store) error { return s.Migrate(ctx) }},
	}
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			db, err := sql.Open(driver, postgres(t, nil))
			require.NoError(t, err)
			t.Cleanup(func() { db.Close() })
			s := newSQLStore(t, db, sqlstore.PostgreSQL)
			execSQL(t, db, "DROP INDEX grantexhook_events_expires") // so Migrate has work
			lock, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer lock.Rollback()
			_, err = lock.ExecContext(t.Context(), "LOCK grantexhook_events IN EXCLUSIVE MODE")
			require.NoError(t, err)
			for _, test := range calls {
				t.Run(test.name, func(t *testing.T) {
					requireEnds(t, func(ctx context.Context) error { return test.call(ctx, s) })
				})
			}
			t.Run("f in Tx", func(t *testing.T) {
				require.NoError(t, lock.Rollback())
				requireEnds(t, func(ctx context.Context) error {
					return s.Tx(ctx, "evt_1", func(tx *sql.Tx) error {
						_, err := tx.ExecContext(ctx, "SELECT pg_sleep(5)")
						return err
					})
				})
			})
		})
	}
}

func requireEnds(t *testing.T, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, call(ctx), context.DeadlineExceeded)
}
