package integration

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// dispatcherKeep is how long a Dispatcher lets a Store keep an event.
const dispatcherKeep = 24 * time.Hour

// The test checks that Done and Tx commit as the session's setting says, that the other
// calls don't wait for the disk, and that their setting doesn't outlast them.
func TestSQLStoreCommits(t *testing.T) {
	t.Parallel()
	const theSessions = "the session's"
	ctx := t.Context()
	var token int64
	claim := func(s *sqlstore.Store, id string, lease time.Duration) (err error) {
		token, _, err = s.Claim(ctx, id, lease)
		return err
	}
	calls := []struct {
		name string
		call func(s, replica *sqlstore.Store) error
		want []string // for each row that changes
	}{
		{"Claim", func(s, _ *sqlstore.Store) error { return claim(s, "evt_1", 0) }, []string{"off"}},
		{"Claim of an expired event", func(s, _ *sqlstore.Store) error { return claim(s, "evt_1", time.Hour) }, []string{"off"}},
		{"Release", func(s, _ *sqlstore.Store) error { return s.Release(ctx, "evt_1", token) }, []string{"off"}},
		{"Claim of a released event", func(s, _ *sqlstore.Store) error { return claim(s, "evt_1", time.Hour) }, []string{"off"}},
		{"Claim of a claimed event", func(s, _ *sqlstore.Store) error { return claim(s, "evt_1", time.Hour) }, []string{"off"}},
		{"Done", func(s, _ *sqlstore.Store) error { return s.Done(ctx, "evt_1", dispatcherKeep) }, []string{theSessions}},
		{"Claim of a done event", func(s, _ *sqlstore.Store) error { return claim(s, "evt_1", time.Hour) }, []string{theSessions}},
		{"Done without a claim", func(s, _ *sqlstore.Store) error { return s.Done(ctx, "evt_2", 0) }, []string{theSessions}},
		{"Tx", func(s, _ *sqlstore.Store) error {
			return s.Tx(ctx, "evt_3", func(*sql.Tx) error { return nil })
		}, []string{theSessions}},
		{"Done after Tx", func(s, _ *sqlstore.Store) error { return s.Done(ctx, "evt_3", dispatcherKeep) }, nil},
		{"Claim that deletes an expired row first", func(_, replica *sqlstore.Store) error {
			return claim(replica, "evt_4", time.Hour)
		}, []string{"off", "off"}},
	}
	for _, driver := range []string{"pgx", "postgres"} {
		for _, setting := range []string{"on", "local", "off", "remote_apply"} {
			t.Run(driver+", "+setting, func(t *testing.T) {
				db, err := sql.Open(driver, postgres(t, map[string]string{"synchronous_commit": setting}))
				require.NoError(t, err)
				defer db.Close()
				db.SetMaxOpenConns(1)
				s := newSQLStore(t, db, sqlstore.PostgreSQL)
				require.NoError(t, claim(s, "evt_0", time.Hour)) // the next ones don't sweep
				replica, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
				require.NoError(t, err)
				recordCommits(t, db)
				for _, c := range calls {
					require.NoError(t, c.call(s, replica), c.name)
					want := make([]string, len(c.want))
					for i, w := range c.want {
						if want[i] = w; w == theSessions {
							want[i] = setting
						}
					}
					require.Equal(t, want, commits(t, db), c.name)
					require.Equal(t, setting, synchronousCommit(t, db), c.name)
				}
			})
		}
	}
}

// recordCommits makes the database record which setting a transaction has when it
// commits, for each row that it changed.
func recordCommits(t *testing.T, db *sql.DB) {
	t.Helper()
	execSQL(t, db, "CREATE TABLE commits (setting text)")
	execSQL(t, db, `CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$`)
	execSQL(t, db, `CREATE CONSTRAINT TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON grantexhook_events
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION record()`)
}

// commits returns what was recorded since it was called before.
func commits(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "DELETE FROM commits RETURNING setting")
	require.NoError(t, err)
	defer rows.Close()
	found := []string{}
	for rows.Next() {
		var setting string
		require.NoError(t, rows.Scan(&setting))
		found = append(found, setting)
	}
	require.NoError(t, rows.Err())
	return found
}

func synchronousCommit(t *testing.T, db *sql.DB) (setting string) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&setting))
	return setting
}

// The test checks that Done has nothing to commit if the event is marked for as long or
// slightly longer, as it is after Tx. At the isolation level serializable, Done doesn't
// look.
func TestDoneOfAMarkedEvent(t *testing.T) {
	const keep = dispatcherKeep
	tests := []struct {
		name   string
		before func(t *testing.T, b sqlBackend, id string) error
		same   bool
	}{
		{"marked by Tx", func(t *testing.T, b sqlBackend, id string) error {
			return b.Tx(t.Context(), id, effect(t.Context(), id))
		}, true},
		{"claimed and marked by Tx", func(t *testing.T, b sqlBackend, id string) error {
			b.claim(t, id)
			return b.Tx(t.Context(), id, effect(t.Context(), id))
		}, true},
		{"marked for slightly less", func(t *testing.T, b sqlBackend, id string) error { return b.Done(t.Context(), id, keep-time.Second) }, false},
		{"marked for much longer", func(t *testing.T, b sqlBackend, id string) error { return b.Done(t.Context(), id, keep+2*time.Minute) }, false},
		{"marked and expired", func(t *testing.T, b sqlBackend, id string) error { return b.Done(t.Context(), id, 0) }, false},
		{"claimed for slightly longer", func(t *testing.T, b sqlBackend, id string) error {
			_, _, err := b.Claim(t.Context(), id, keep+time.Minute)
			return err
		}, false},
		{"free, while another one is marked", func(t *testing.T, b sqlBackend, id string) error {
			return b.Tx(t.Context(), "other", effect(t.Context(), "other"))
		}, false},
	}
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		other := b.again()
		looks := b.dialect == sqlstore.SQLite || isolation(t, other) != "serializable"
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				require.NoError(t, test.before(t, b, test.name))
				begin := time.Now()
				before := b.version(t, other)
				require.NoError(t, b.Done(t.Context(), test.name, keep))
				require.Equal(t, test.same && looks, before == b.version(t, other))
				token, left := b.row(t, test.name)
				require.Zero(t, token)
				require.GreaterOrEqual(t, left, keep.Seconds()-time.Since(begin).Seconds()-0.002)
				require.LessOrEqual(t, left, (keep+time.Minute).Seconds()+0.002)
			})
		}
	})
}

// version returns a text that differs after a transaction that changed or locked a row
// of the Store. db is another connection, which commits nothing itself.
func (b sqlBackend) version(t *testing.T, db *sql.DB) (version string) {
	t.Helper()
	query := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "SELECT coalesce(string_agg(concat_ws(' ', id, ctid, xmin, xmax), ',' ORDER BY id), '') FROM grantexhook_events",
		sqlstore.SQLite:     "PRAGMA data_version",
	}[b.dialect]
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&version))
	return version
}

func isolation(t *testing.T, db *sql.DB) (level string) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW transaction_isolation").Scan(&level))
	return level
}

// The test checks that Done doesn't make the transactions of others fail at the
// isolation level serializable. It would, if it read the table: PostgreSQL reads a small
// table as a whole.
func TestDoneWithoutConflict(t *testing.T) {
	t.Parallel()
	url := postgres(t, map[string]string{"default_transaction_isolation": "serializable"})
	b := newSQLBackend(t, sqlstore.PostgreSQL, func() *sql.DB { return openPostgres(t, url) })
	require.NoError(t, b.Tx(t.Context(), "evt_1", effect(t.Context(), "evt_1")))
	execSQL(t, b.db, "VACUUM ANALYZE grantexhook_events")
	for i, id := range []string{"evt_1", "evt_2"} { // one that is marked, and one that isn't
		own := fmt.Sprint("own ", i)
		require.NoError(t, b.Tx(t.Context(), own, func(tx *sql.Tx) error {
			var n int
			require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&n))
			execSQL(t, b.db, "INSERT INTO effects (event) VALUES ('other')")
			require.NoError(t, b.Done(t.Context(), id, dispatcherKeep))
			return effect(t.Context(), own)(tx)
		}), id)
	}
}
