package integration

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
	"grantex.dev/grantexhook/storetest"
)

func newSQLStore(t testing.TB, db *sql.DB, d sqlstore.Dialect) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, d, nil)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func TestPostgreSQLStore(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, isolation string }{
		{"read committed", "read committed"},
		{"repeatable read", "repeatable read"},
		{"serializable", "serializable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := postgres(t, map[string]string{"default_transaction_isolation": test.isolation})
			s := newSQLStore(t, openPostgres(t, url), sqlstore.PostgreSQL)
			storetest.Run(t, func(*testing.T) grantexhook.Store { return s })
		})
	}
}

func TestSQLiteStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	s := newSQLStore(t, openSQLite(t, sqliteDSN(path)), sqlstore.SQLite)
	storetest.Run(t, func(*testing.T) grantexhook.Store { return s })
}
