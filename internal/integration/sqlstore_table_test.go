package integration

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// The test checks that expired rows are deleted four times as fast as rows can be added.
func TestSQLStoreForgets(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		const kept = 20
		for i := range kept {
			require.NoError(t, b.Done(t.Context(), fmt.Sprint("kept ", i), time.Hour))
		}
		b.fill(t, 1500)
		wants := map[int]int{
			1:   kept + 1500 - 512 + 1,
			2:   kept + 1500 - 512 + 2,
			128: kept + 1500 - 512 + 128,
			129: kept + 1500 - 1024 + 129,
			257: kept + 257, // 476 were left
		}
		for i := 1; i <= 257; i++ {
			b.claim(t, fmt.Sprint("new ", i))
			if want, ok := wants[i]; ok {
				require.Equal(t, want, b.count(t, "grantexhook_events"), "after claim %d", i)
			}
		}
		for i := range kept {
			_, done := b.claim(t, fmt.Sprint("kept ", i))
			require.True(t, done)
		}
	})
}

// fill adds expired rows, half of them done.
func (b sqlBackend) fill(t *testing.T, n int) {
	t.Helper()
	past := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "now() - interval '1 second'", sqlstore.SQLite: "unixepoch() - 1"}[b.dialect]
	execSQL(t, b.db, `
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < `+fmt.Sprint(n)+`)
INSERT INTO grantexhook_events (id, token, expires) SELECT 'old ' || n, n % 2, `+past+` FROM numbers`)
}

// The test checks that a Claim that can't delete expired rows returns an error and
// doesn't claim the event.
func TestSQLStoreCannotForget(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		b.fill(t, 1)
		if b.dialect == sqlstore.SQLite {
			execSQL(t, b.db, "CREATE TRIGGER keep BEFORE DELETE ON grantexhook_events BEGIN SELECT raise(ABORT, 'no deletion'); END")
		} else {
			execSQL(t, b.db, "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no deletion'; END $$")
			execSQL(t, b.db, "CREATE TRIGGER keep BEFORE DELETE ON grantexhook_events FOR EACH ROW EXECUTE FUNCTION keep()")
		}
		_, _, err := b.Claim(t.Context(), "evt_1", time.Minute)
		require.ErrorContains(t, err, "sqlstore: deleting expired rows: ")
		require.ErrorContains(t, err, "no deletion")
		token, _ := b.claim(t, "evt_1")
		require.NotZero(t, token)
	})
}

func TestMigrateAtOnce(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		execSQL(t, b.db, "DROP TABLE grantexhook_events")
		var wg sync.WaitGroup
		for range 8 {
			s, err := sqlstore.New(b.again(), b.dialect, nil)
			require.NoError(t, err)
			wg.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		token, _ := b.claim(t, "evt_1")
		require.NotZero(t, token)
	})
}

// The test checks that processes with different search paths can create the same table
// at once.
func TestMigrateAtOnceAlongSearchPaths(t *testing.T) {
	t.Parallel()
	for range 3 {
		schema := currentSchema(t, postgres(t, nil))
		var wg sync.WaitGroup
		for i := range 6 {
			db := openPostgres(t, postgres(t, nil))
			if i%3 == 0 {
				db = openPostgres(t, withSearchPath(t, postgresURL, schema))
			}
			table := schema + ".grantexhook_events"
			if i == 0 {
				table = ""
			}
			s, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Table: table})
			require.NoError(t, err)
			wg.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func currentSchema(t *testing.T, address string) (schema string) {
	t.Helper()
	require.NoError(t, openPostgres(t, address).QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema))
	return schema
}

// The test checks that any tool that runs SQL can run the statements of Schema.
func TestSchemaRuns(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		s, err := sqlstore.New(b.db, b.dialect, &sqlstore.Options{Table: "order"})
		require.NoError(t, err)
		for range 2 {
			if b.dialect == sqlstore.PostgreSQL {
				execSQL(t, b.db, "DO $do$ BEGIN "+"EXECUTE $sql$ "+withoutSelect(s.Schema())+" $sql$; END $do$")
			} else {
				execSQL(t, b.db, s.Schema())
			}
		}
		_, _, err = s.Claim(t.Context(), "evt_1", time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, b.count(t, `"order"`))
		require.Zero(t, b.count(t, "grantexhook_events"))
	})
}

func TestTableInAnotherSchema(t *testing.T) {
	db := openPostgres(t, postgres(t, nil))
	schema := randomName()
	execSQL(t, db, "CREATE SCHEMA "+schema)
	defer execSQL(t, db, "DROP SCHEMA "+schema+" CASCADE")
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Table: schema + ".events"})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Done(t.Context(), "evt_1", time.Minute))
	_, done, err := s.Claim(t.Context(), "evt_1", time.Minute)
	require.NoError(t, err)
	require.True(t, done)
}

// The test checks that a Claim that waited for a row counts its lease from the moment it
// got the row.
func TestLeaseBeginsWithTheClaim(t *testing.T) {
	t.Parallel()
	name := randomName()
	db := openPostgres(t, postgres(t, map[string]string{"application_name": name}))
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	_, _, err := s.Claim(t.Context(), "evt_1", 0)
	require.NoError(t, err)
	lock, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = lock.ExecContext(t.Context(), "SELECT FROM grantexhook_events FOR UPDATE")
	require.NoError(t, err)

	var wg sync.WaitGroup
	const lease = 2 * time.Second
	wg.Go(func() {
		token, _, err := s.Claim(t.Context(), "evt_1", lease)
		if err != nil || token == 0 {
			t.Error(token, err)
		}
	})
	waitUntilOneWaits(t, db, name)
	time.Sleep(lease)
	require.NoError(t, lock.Commit())
	wg.Wait()
	token, done, err := s.Claim(t.Context(), "evt_1", time.Minute)
	require.NoError(t, err)
	require.Zero(t, token, "the lease was over when the claim was made")
	require.False(t, done)
}

// waitUntilOneWaits waits until a session with this application_name waits for a
// lock.
func waitUntilOneWaits(t *testing.T, db *sql.DB, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO \"grantexhook_events\"%'", name).Scan(&n)
		return err == nil && n > 0
	}, 5*time.Second, 10*time.Millisecond)
}

// The test checks that errors don't contain the password.
func TestSQLStoreErrorsKeepThePassword(t *testing.T) {
	db := openPostgres(t, "postgres://user:a-password@127.0.0.1:1/none?connect_timeout=2")
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	require.NoError(t, err)
	_, _, err = s.Claim(t.Context(), "evt_1", time.Minute)
	for _, err := range []error{err, s.Done(t.Context(), "evt_1", time.Minute), s.Release(t.Context(), "evt_1", 1), s.Migrate(t.Context()),
		s.Tx(t.Context(), "evt_1", func(*sql.Tx) error { return nil })} {
		require.ErrorContains(t, err, "sqlstore: ")
		require.NotContains(t, err.Error(), "a-password")
	}
}

// withoutSelect removes the lock, since a DO block would have to PERFORM it.
func withoutSelect(schema string) string {
	_, rest, _ := strings.Cut(schema, "\n")
	return rest
}
