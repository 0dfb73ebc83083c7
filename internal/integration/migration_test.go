package integration

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// The test checks that a failed migration of sqlstore is rolled back. The table that
// it created is gone, and the only connection is free for the next try.
func TestMigrationFails(t *testing.T) {
	type table struct {
		db, admin        *sql.DB
		dialect          sqlstore.Dialect
		find, cure, want string // statements, and the text of the error
	}
	tests := []struct {
		name string
		open func(t *testing.T) table
	}{
		{"SQLite", func(t *testing.T) table {
			db := openSQLite(t, sqliteDSN(filepath.Join(t.TempDir(), "events.db")))
			execSQL(t, db, "CREATE TABLE grantexhook_events_expires (x)") // has the name of the index
			return table{db, db, sqlstore.SQLite, "SELECT count(*) FROM sqlite_master WHERE name = 'grantexhook_events'",
				"DROP TABLE grantexhook_events_expires", "grantexhook_events_expires"}
		}},
		{"PostgreSQL", func(t *testing.T) table {
			owner := postgres(t, nil)
			admin, role := openPostgres(t, owner), limitedRole(t, owner, tableGrants[0])
			db := openPostgres(t, role)
			db.SetMaxOpenConns(1)
			u, err := url.Parse(role)
			require.NoError(t, err)
			return table{db, admin, sqlstore.PostgreSQL, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()",
				fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s", u.Query().Get("search_path"), u.User.Username()), "permission denied"}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := test.open(t)
			store, err := sqlstore.New(in.db, in.dialect, nil)
			require.NoError(t, err)
			require.ErrorContains(t, store.Migrate(t.Context()), in.want)
			require.Zero(t, in.db.Stats().InUse, "connections that are still in use")
			var tables int
			require.NoError(t, in.db.QueryRowContext(t.Context(), in.find).Scan(&tables))
			require.Zero(t, tables)

			execSQL(t, in.admin, in.cure)
			require.NoError(t, store.Migrate(t.Context()))
			_, _, err = store.Claim(t.Context(), "evt_1", 1)
			require.NoError(t, err)
		})
	}
}
