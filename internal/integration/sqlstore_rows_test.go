package integration

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// row returns the token of a row, and the seconds until it expires.
func (b sqlBackend) row(t *testing.T, id string) (token int64, left float64) {
	t.Helper()
	until := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "extract(epoch FROM expires - clock_timestamp())::float8",
		sqlstore.SQLite:     "expires - unixepoch('now', 'subsec')",
	}[b.dialect]
	require.NoError(t, b.db.QueryRowContext(t.Context(), "SELECT token, "+until+" FROM grantexhook_events WHERE id = $1", id).Scan(&token, &left))
	return token, left
}

// The test checks that a row expires when it should, to a fraction of a second.
func TestSQLStoreExpiry(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		name  string
		write func(b sqlBackend, id string) error
		want  time.Duration
	}{
		{"Claim", func(b sqlBackend, id string) error { _, _, err := b.Claim(ctx, id, 1500*time.Millisecond); return err }, 1500 * time.Millisecond},
		{"Claim of an expired row", func(b sqlBackend, id string) error {
			_, _, err := b.Claim(ctx, id, 0)
			if err == nil {
				_, _, err = b.Claim(ctx, id, 2500*time.Millisecond)
			}
			return err
		}, 2500 * time.Millisecond},
		{"Done", func(b sqlBackend, id string) error { return b.Done(ctx, id, 90*time.Minute+500*time.Millisecond) }, 90*time.Minute + 500*time.Millisecond},
		{"Done of a claimed event", func(b sqlBackend, id string) error {
			_, _, err := b.Claim(ctx, id, time.Second)
			if err == nil {
				err = b.Done(ctx, id, 7500*time.Millisecond)
			}
			return err
		}, 7500 * time.Millisecond},
		{"Tx", func(b sqlBackend, id string) error { return b.Tx(ctx, id, effect(ctx, id)) }, dispatcherKeep + time.Minute},
		{"Tx of a claimed event", func(b sqlBackend, id string) error {
			_, _, err := b.Claim(ctx, id, time.Second)
			if err == nil {
				err = b.Tx(ctx, id, effect(ctx, id))
			}
			return err
		}, dispatcherKeep + time.Minute},
	}
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				begin := time.Now()
				require.NoError(t, test.write(b, test.name))
				_, left := b.row(t, test.name)
				const resolution = 0.002 // of SQLite's clock
				require.LessOrEqual(t, left, test.want.Seconds()+resolution)
				require.GreaterOrEqual(t, left, test.want.Seconds()-time.Since(begin).Seconds()-resolution)
			})
		}
	})
}

// The test checks that tokens are positive and drawn from a range so large that they
// don't repeat.
func TestSQLStoreTokens(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		large := 0
		for i := range 64 {
			id := fmt.Sprint("evt_", i)
			token, _ := b.claim(t, id)
			stored, _ := b.row(t, id)
			require.Equal(t, token, stored)
			require.Positive(t, token)
			if token > 1<<61 {
				large++
			}
		}
		require.NotZero(t, large)
	})
}

// The test checks that each call respects its context, and that its error describes
// what was attempted and wraps the cause.
func TestSQLStoreErrors(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		b.claim(t, "evt_1") // so the next Claim doesn't sweep
		calls := []struct {
			name string
			call func(context.Context) error
		}{
			{"claiming an event", func(ctx context.Context) error { _, _, err := b.Claim(ctx, "evt_2", time.Minute); return err }},
			{"marking an event as done", func(ctx context.Context) error { return b.Done(ctx, "evt_2", time.Minute) }},
			{"releasing an event", func(ctx context.Context) error { return b.Release(ctx, "evt_1", 1) }},
			{"marking an event as done in a transaction", func(ctx context.Context) error { return b.Tx(ctx, "evt_2", effect(ctx, "evt_2")) }},
			{"creating the table", b.Migrate},
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range calls {
			err := c.call(ended)
			require.ErrorIs(t, err, context.Canceled, c.name)
			require.ErrorContains(t, err, "sqlstore: "+c.name+": ")
		}
		require.Equal(t, 1, b.count(t, "grantexhook_events"))

		execSQL(t, b.db, "DROP TABLE grantexhook_events")
		execSQL(t, b.db, "CREATE VIEW grantexhook_events AS SELECT 'evt' AS id, 1 AS token, 1 AS expires")
		b.db.SetMaxOpenConns(1) // a transaction that stays open would block the next call
		for _, c := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := c.call(ctx)
			require.ErrorContains(t, err, "sqlstore: "+c.name+": ")
			require.NotErrorIs(t, err, context.DeadlineExceeded, c.name)
		}
	})
}

// The test checks that replicas that start at once can all delete expired rows.
func TestSQLStoreForgetsAtOnce(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		b.fill(t, 3000)
		var wg sync.WaitGroup
		for i := range 8 {
			s, err := sqlstore.New(b.again(), b.dialect, nil)
			require.NoError(t, err)
			wg.Go(func() {
				if token, _, err := s.Claim(t.Context(), fmt.Sprint("evt_", i), time.Minute); err != nil || token == 0 {
					t.Error(token, err)
				}
			})
		}
		wg.Wait()
	})
}

// The test checks that a row that a transaction holds is left for later.
func TestSQLStoreDoesNotWaitToForget(t *testing.T) {
	db := openPostgres(t, postgres(t, nil))
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	require.NoError(t, s.Done(t.Context(), "old", 0))
	lock, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer lock.Rollback()
	_, err = lock.ExecContext(t.Context(), "SELECT FROM grantexhook_events FOR UPDATE")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	token, _, err := s.Claim(ctx, "new", time.Minute)
	require.NoError(t, err)
	require.NotZero(t, token)
}

// The test checks that a transaction has the database's default isolation level.
func TestTxIsolation(t *testing.T) {
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			s := newSQLStore(t, openPostgres(t, postgres(t, map[string]string{"default_transaction_isolation": isolation})), sqlstore.PostgreSQL)
			require.NoError(t, s.Tx(t.Context(), "evt_1", func(tx *sql.Tx) error {
				var got string
				require.NoError(t, tx.QueryRowContext(t.Context(), "SHOW transaction_isolation").Scan(&got))
				require.Equal(t, isolation, got)
				return nil
			}))
		})
	}
}

// The test checks that the mark is written before f is called, so no one else can begin.
func TestTxMarksFirst(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		require.NoError(t, b.Tx(t.Context(), "evt_1", func(tx *sql.Tx) error {
			var token int64
			require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT token FROM grantexhook_events WHERE id = 'evt_1'").Scan(&token))
			require.Zero(t, token)
			return nil
		}))
	})
}

func TestSchemaNameIsBounded(t *testing.T) {
	db := openPostgres(t, postgresURL)
	for length, ok := range map[int]bool{63: true, 64: false} {
		_, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Table: strings.Repeat("s", length) + ".events"})
		require.Equal(t, ok, err == nil, length)
	}
}

// The test checks that a sweep doesn't make the transactions of others fail at the
// isolation level serializable.
func TestSQLStoreForgetsWithoutConflict(t *testing.T) {
	url := postgres(t, map[string]string{"default_transaction_isolation": "serializable"})
	b := newSQLBackend(t, sqlstore.PostgreSQL, func() *sql.DB { return openPostgres(t, url) })
	b.claim(t, "evt_0") // so this Store doesn't sweep
	b.fill(t, 10)
	replica, err := sqlstore.New(b.again(), b.dialect, nil)
	require.NoError(t, err)
	require.NoError(t, b.Tx(t.Context(), "evt_1", func(tx *sql.Tx) error {
		var n int
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&n))
		execSQL(t, b.db, "INSERT INTO effects (event) VALUES ('other')")
		_, _, err := replica.Claim(t.Context(), "evt_2", time.Minute)
		require.NoError(t, err)
		return effect(t.Context(), "evt_1")(tx)
	}))
	require.Equal(t, 3, b.count(t, "grantexhook_events"))
}
