package integration

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// The test checks that Migrate reports a table in which no event could be claimed, and
// that the table works once the user has done what the error says.
func TestMigrateWithoutAKey(t *testing.T) {
	const (
		columns = "id text NOT NULL, token bigint NOT NULL, expires timestamptz NOT NULL"
		index   = "; CREATE INDEX grantexhook_events_expires ON grantexhook_events (expires)"
		alter   = `ALTER TABLE "grantexhook_events" ADD UNIQUE (id)`
		drop    = "ALTER TABLE grantexhook_events DROP CONSTRAINT "
	)
	tests := []struct{ name, before, cure string }{
		{"no key", "CREATE TABLE grantexhook_events (" + columns + ")" + index, alter},
		{"no index either", "CREATE TABLE grantexhook_events (" + columns + ")", alter},
		{"a unique index of two columns", "CREATE TABLE grantexhook_events (" + columns + ", UNIQUE (id, token))" + index, alter},
		{"an index that isn't unique", "CREATE TABLE grantexhook_events (" + columns + "); CREATE INDEX ON grantexhook_events (id)" + index, alter},
		{"a key of another column", "CREATE TABLE grantexhook_events (" + columns + ", n serial PRIMARY KEY)" + index, alter},
		{"a deferrable key", "CREATE TABLE grantexhook_events (" + columns + ", PRIMARY KEY (id) DEFERRABLE)" + index,
			drop + "grantexhook_events_pkey; " + alter},
		{"a deferrable key and another", "CREATE TABLE grantexhook_events (" + columns + ", PRIMARY KEY (id), UNIQUE (id) DEFERRABLE)" + index,
			drop + "grantexhook_events_id_key"},
		{"a partial index", "CREATE TABLE grantexhook_events (" + columns + "); CREATE UNIQUE INDEX ON grantexhook_events (id) WHERE token = 0" + index, alter},
	}
	for _, test := range tests {
		t.Run("PostgreSQL, "+test.name, func(t *testing.T) {
			t.Parallel()
			db := openPostgres(t, postgres(t, nil))
			execSQL(t, db, test.before)
			requireCure(t, db, sqlstore.PostgreSQL, alter, test.cure)
		})
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		db := openSQLite(t, sqliteDSN(filepath.Join(t.TempDir(), "events.db")))
		execSQL(t, db, "CREATE TABLE grantexhook_events (id text, token integer, expires real)")
		requireCure(t, db, sqlstore.SQLite, "rename it", "ALTER TABLE grantexhook_events RENAME TO other; DROP INDEX IF EXISTS grantexhook_events_expires")
	})
}

func requireCure(t *testing.T, db *sql.DB, d sqlstore.Dialect, want, cure string) {
	t.Helper()
	s, err := sqlstore.New(db, d, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = s.Migrate(ctx)
	require.ErrorContains(t, err, "sqlstore: creating the table: ")
	require.ErrorContains(t, err, want)
	_, _, claimErr := s.Claim(ctx, "evt_1", time.Minute)
	require.Error(t, claimErr)

	execSQL(t, db, cure)
	require.NoError(t, s.Migrate(ctx))
	token, _, err := s.Claim(ctx, "evt_1", time.Minute)
	require.NoError(t, err)
	require.NotZero(t, token)
}

// The test checks that another unique index on id does as well as a primary key.
func TestMigrateWithAUniqueIndex(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres(t, nil))
	execSQL(t, db, "CREATE TABLE grantexhook_events (id text NOT NULL, token bigint NOT NULL, expires timestamptz NOT NULL)")
	execSQL(t, db, "CREATE UNIQUE INDEX ON grantexhook_events (id) INCLUDE (token)")
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	token, _, err := s.Claim(t.Context(), "evt_1", time.Minute)
	require.NoError(t, err)
	require.NotZero(t, token)
}
