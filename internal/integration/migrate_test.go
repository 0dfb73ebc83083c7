package integration

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// claimWithin checks that an event can be claimed within bound.
func claimWithin(t *testing.T, s *sqlstore.Store, id string, bound time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	token, _, err := s.Claim(ctx, id, time.Minute)
	require.NoError(t, err)
	require.NotZero(t, token)
}

// The test checks that a process that starts while an event is in Tx doesn't wait,
// and doesn't make other events wait.
func TestMigrateOfWhatIsThere(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		starting, err := sqlstore.New(b.again(), b.dialect, nil)
		require.NoError(t, err)
		b.claim(t, "evt_0") // keeps this Store from sweeping
		require.NoError(t, b.Tx(t.Context(), "evt_1", func(*sql.Tx) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			require.NoError(t, starting.Migrate(ctx))
			if b.dialect == sqlstore.PostgreSQL { // SQLite has one writer
				claimWithin(t, b.Store, "evt_2", 5*time.Second)
			}
			return nil
		}))
	})
}

// The test checks that building the index waits for the event in Tx, and lets other
// events through about every second.
func TestMigrateGivesWay(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, before string }{
		{"no index", "DROP INDEX grantexhook_events_expires"},
		{"an invalid index", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'grantexhook_events_expires'::regclass"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := openPostgres(t, postgres(t, nil))
			s := newSQLStore(t, db, sqlstore.PostgreSQL)
			execSQL(t, db, test.before)
			var wg sync.WaitGroup
			require.NoError(t, s.Tx(t.Context(), "evt_1", func(*sql.Tx) error {
				wg.Go(func() {
					if err := s.Migrate(t.Context()); err != nil {
						t.Error(err)
					}
				})
				for i, end := 0, time.Now().Add(4*time.Second); time.Now().Before(end); i++ {
					claimWithin(t, s, fmt.Sprint("other ", i), 3*time.Second)
				}
				return nil
			}))
			wg.Wait()
			var valid bool
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT indisvalid FROM pg_index WHERE indexrelid = 'grantexhook_events_expires'::regclass").Scan(&valid))
			require.True(t, valid)
		})
	}
}

// The test checks that processes that start while an index is being built don't fail,
// and don't drop it. The index is invalid until it's built.
func TestMigrateWhileTheIndexIsBuilt(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres(t, nil))
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	execSQL(t, db, "DROP INDEX grantexhook_events_expires")
	var wg sync.WaitGroup
	require.NoError(t, s.Tx(t.Context(), "evt_1", func(*sql.Tx) error {
		wg.Go(func() {
			if _, err := db.ExecContext(t.Context(), "CREATE INDEX CONCURRENTLY grantexhook_events_expires ON grantexhook_events (expires)"); err != nil {
				t.Error(err)
			}
		})
		invalid := func() (found bool) {
			err := db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('grantexhook_events_expires') AND NOT indisvalid)").Scan(&found)
			return err == nil && found
		}
		require.Eventually(t, invalid, 5*time.Second, 10*time.Millisecond)
		for range 3 {
			wg.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond) // they wait for the table
		return nil
	}))
	wg.Wait()
}

// The test checks that Migrate tries as long as its context lasts.
func TestMigrateUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres(t, nil))
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	execSQL(t, db, "DROP INDEX grantexhook_events_expires")
	require.NoError(t, s.Tx(t.Context(), "evt_1", func(*sql.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Migrate(ctx), context.DeadlineExceeded)
		require.Error(t, ctx.Err())
		return nil
	}))
	require.NoError(t, s.Migrate(t.Context()))
}

// The test checks that a role that can't create tables can start if the table
// exists.
func TestMigrateWithoutTheRightToCreate(t *testing.T) {
	address := postgres(t, nil)
	db := openPostgres(t, address)
	newSQLStore(t, db, sqlstore.PostgreSQL)
	role := randomName()
	execSQL(t, db, "CREATE ROLE "+role)
	t.Cleanup(func() {
		_, err := db.ExecContext(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		require.NoError(t, err)
	})
	var schema string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema))
	execSQL(t, db, "GRANT USAGE ON SCHEMA "+schema+" TO "+role)
	execSQL(t, db, "GRANT SELECT, INSERT, UPDATE, DELETE ON grantexhook_events TO "+role)

	u, err := url.Parse(address)
	require.NoError(t, err)
	u.RawQuery += "&role=" + role
	limited := openPostgres(t, u.String())
	_, err = limited.ExecContext(t.Context(), "CREATE TABLE other (id text)")
	require.ErrorContains(t, err, "permission denied")
	s, err := sqlstore.New(limited, sqlstore.PostgreSQL, nil)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	token, _, err := s.Claim(t.Context(), "evt_1", time.Minute)
	require.NoError(t, err)
	require.NoError(t, s.Release(t.Context(), "evt_1", token))
	require.NoError(t, s.Done(t.Context(), "evt_1", 0))
	require.NoError(t, s.Tx(t.Context(), "evt_1", func(*sql.Tx) error { return nil }))

	execSQL(t, db, "DROP INDEX grantexhook_events_expires")
	require.ErrorContains(t, s.Migrate(t.Context()), "must be owner")
}

// The test checks that Migrate finds the table wherever the Store's other statements
// find it.
func TestMigrateAlongTheSearchPath(t *testing.T) {
	first := postgres(t, nil)
	db := openPostgres(t, first)
	newSQLStore(t, db, sqlstore.PostgreSQL)
	var schema string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema))
	front := openPostgres(t, postgres(t, nil))
	var before string
	require.NoError(t, front.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&before))

	for _, change := range []string{"SELECT 1", "DROP INDEX grantexhook_events_expires"} {
		execSQL(t, db, change)
		both := openPostgres(t, withSearchPath(t, first, before+","+schema))
		s, err := sqlstore.New(both, sqlstore.PostgreSQL, nil)
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		var tables, indexes int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = $1", before).Scan(&tables))
		require.Zero(t, tables, "a second table hides the first")
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_indexes WHERE schemaname = $1 AND indexname = 'grantexhook_events_expires'", schema).Scan(&indexes))
		require.Equal(t, 1, indexes)
	}
}

func withSearchPath(t *testing.T, address, path string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", path)
	u.RawQuery = q.Encode()
	return u.String()
}

const eventsTable = "CREATE TABLE grantexhook_events (id text PRIMARY KEY, token bigint NOT NULL, expires timestamptz NOT NULL)"

// The test checks that an index that someone else created counts only if sweeps can use
// it.
func TestMigrateBesideOtherIndexes(t *testing.T) {
	tests := []struct {
		name, index string
		want        int // indexes in the end, with the primary key's
	}{
		{"one that sweeps can use", "(expires, id)", 2},
		{"one that leaves rows out", "(expires) WHERE token = 0", 3},
		{"one where expires comes second", "(id, expires)", 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := openPostgres(t, postgres(t, nil))
			execSQL(t, db, eventsTable+"; CREATE INDEX other ON grantexhook_events "+test.index)
			newSQLStore(t, db, sqlstore.PostgreSQL)
			var indexes int
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema()").Scan(&indexes))
			require.Equal(t, test.want, indexes)
		})
	}
}

// The test checks that Migrate reports a table that it can't complete.
func TestMigrateOfAnotherTable(t *testing.T) {
	tests := []struct{ name, before, want string }{
		{"another table", "CREATE TABLE grantexhook_events (id text)", `column "expires" does not exist`},
		{"a table without a column", "CREATE TABLE grantexhook_events (id text PRIMARY KEY, expires timestamptz)", "lacks a column"},
		{"a name that is taken", "CREATE TABLE grantexhook_events_expires (id text)", "has the name of its index"},
		{"an index of that name that leaves rows out",
			eventsTable + "; CREATE INDEX grantexhook_events_expires ON grantexhook_events (expires) WHERE token = 0", "has the name of its index"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := openPostgres(t, postgres(t, nil))
			execSQL(t, db, test.before)
			s, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err = s.Migrate(ctx)
			require.ErrorContains(t, err, "sqlstore: creating the table: ")
			require.ErrorContains(t, err, test.want)
		})
	}
}
