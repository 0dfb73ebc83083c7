package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
)

// The tests with databases are in internal/integration, where the drivers are.
var _ grantexhook.Store = (*sqlstore.Store)(nil)

// unreached is for a sql.DB that must not connect.
type unreached struct{}

func (unreached) Connect(context.Context) (driver.Conn, error) { panic("New connects") }
func (unreached) Driver() driver.Driver                        { return nil }

func TestNew(t *testing.T) {
	db := sql.OpenDB(unreached{})
	defer db.Close()
	longest := strings.Repeat("t", 55)
	tests := []struct {
		name    string
		db      *sql.DB
		dialect sqlstore.Dialect
		table   string
		want    string // in the error; empty if there's no error
	}{
		{"PostgreSQL", db, sqlstore.PostgreSQL, "", ""},
		{"SQLite", db, sqlstore.SQLite, "", ""},
		{"another table", db, sqlstore.SQLite, "events_2", ""},
		{"a keyword", db, sqlstore.PostgreSQL, "order", ""},
		{"the longest name", db, sqlstore.PostgreSQL, longest, ""},
		{"a schema", db, sqlstore.PostgreSQL, "hooks.events", ""},
		{"no database", nil, sqlstore.PostgreSQL, "", "db is nil"},
		{"no dialect", db, 0, "", "use sqlstore.PostgreSQL or sqlstore.SQLite"},
		{"an unknown dialect", db, 3, "", "use sqlstore.PostgreSQL or sqlstore.SQLite"},
		{"a schema in SQLite", db, sqlstore.SQLite, "main.events", "SQLite has no schemas"},
		{"too long", db, sqlstore.PostgreSQL, longest + "t", "is not a valid table name"},
		{"upper case", db, sqlstore.PostgreSQL, "Events", "is not a valid table name"},
		{"a digit first", db, sqlstore.PostgreSQL, "2events", "is not a valid table name"},
		{"a space", db, sqlstore.PostgreSQL, "my events", "is not a valid table name"},
		{"a line feed at the end", db, sqlstore.PostgreSQL, "events\n", "is not a valid table name"},
		{"a quote", db, sqlstore.PostgreSQL, `e"; DROP TABLE users; --`, "is not a valid table name"},
		{"two dots", db, sqlstore.PostgreSQL, "a.b.c", "is not a valid table name"},
		{"no schema before the dot", db, sqlstore.PostgreSQL, ".events", "is not a valid table name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := sqlstore.New(test.db, test.dialect, &sqlstore.Options{Table: test.table})
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.Nil(t, s)
				return
			}
			require.NoError(t, err)
			require.NotNil(t, s)
		})
	}
}

func TestSchema(t *testing.T) {
	db := sql.OpenDB(unreached{})
	defer db.Close()
	tests := []struct {
		name    string
		dialect sqlstore.Dialect
		table   string
		want    []string
	}{
		{"PostgreSQL", sqlstore.PostgreSQL, "", []string{
			`SELECT pg_advisory_xact_lock(hashtextextended(concat(current_schema(), '.grantexhook_events'), 0));`,
			`CREATE TABLE IF NOT EXISTS "grantexhook_events" (id text PRIMARY KEY, token bigint NOT NULL, expires timestamptz NOT NULL);`,
			`CREATE INDEX IF NOT EXISTS "grantexhook_events_expires" ON "grantexhook_events" (expires);`,
		}},
		{"PostgreSQL, another table", sqlstore.PostgreSQL, "hooks.order", []string{
			`SELECT pg_advisory_xact_lock(hashtextextended('hooks.order', 0));`,
			`CREATE TABLE IF NOT EXISTS "hooks"."order" (id text PRIMARY KEY, token bigint NOT NULL, expires timestamptz NOT NULL);`,
			`CREATE INDEX IF NOT EXISTS "order_expires" ON "hooks"."order" (expires);`,
		}},
		{"SQLite", sqlstore.SQLite, "", []string{
			`CREATE TABLE IF NOT EXISTS "grantexhook_events" (id TEXT PRIMARY KEY, token INTEGER NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID;`,
			`CREATE INDEX IF NOT EXISTS "grantexhook_events_expires" ON "grantexhook_events" (expires);`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := sqlstore.New(db, test.dialect, &sqlstore.Options{Table: test.table})
			require.NoError(t, err)
			require.Equal(t, strings.Join(test.want, "\n")+"\n", s.Schema())
		})
	}
}
