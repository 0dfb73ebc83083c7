package integration

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// A vanishing machine's packets are dropped from some moment on. The server doesn't
// notice, and keeps the machine's session and its locks.
type vanishing struct {
	*sqlstore.Store
	proxy *proxy
	other *sqlstore.Store // of another machine
	db    *sql.DB         // of the other machine
	name  string          // of the connections that vanish
}

func newVanishing(t *testing.T) vanishing {
	t.Helper()
	t.Parallel()
	url := postgres(t, nil)
	db := openPostgres(t, url)
	other := newSQLStore(t, db, sqlstore.PostgreSQL)
	name := randomName()
	proxied, p := proxiedPostgres(t, url+"&application_name="+name)
	s, err := sqlstore.New(proxied, sqlstore.PostgreSQL, nil)
	require.NoError(t, err)
	return vanishing{s, p, other, db, name}
}

func (v vanishing) vanish() { v.proxy.set(proxyHangs) }

// waitFor waits until the condition is true for a statement from the machine.
func (v vanishing) waitFor(t *testing.T, condition string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		err := v.db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND "+condition, v.name).Scan(&n)
		return err == nil && n > 0
	}, 5*time.Second, 10*time.Millisecond)
}

// The test checks that the event is free again soon after the deadline if a machine
// vanishes in Tx.
func TestVanishedInTx(t *testing.T) {
	v := newVanishing(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := v.Tx(ctx, "evt_1", func(*sql.Tx) error { v.vanish(); return nil })
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	called := false
	require.NoError(t, v.other.Tx(ctx, "evt_1", func(*sql.Tx) error { called = true; return nil }))
	require.True(t, called)
}

// The test checks that the event is free again too if a machine vanishes while its Tx
// waits for another one, whether that one commits or not.
func TestVanishedWhileWaiting(t *testing.T) {
	errFailed := errors.New("failed")
	for name, result := range map[string]error{"committed": nil, "rolled back": errFailed} {
		t.Run(name, func(t *testing.T) {
			v := newVanishing(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			require.ErrorIs(t, v.other.Tx(t.Context(), "evt_1", func(*sql.Tx) error {
				wg.Go(func() {
					if err := v.Tx(ctx, "evt_1", func(*sql.Tx) error { return nil }); err == nil {
						t.Error("the machine got a response, although its packets were dropped")
					}
				})
				v.waitFor(t, "wait_event_type = 'Lock' AND query LIKE '%INSERT INTO \"grantexhook_events\"%'")
				v.vanish()
				return result
			}), result)
			wg.Wait()
			ctx, cancel = context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			_, done, err := v.other.Claim(ctx, "evt_1", time.Minute)
			require.NoError(t, err)
			require.Equal(t, result == nil, done)
			require.NoError(t, v.other.Done(ctx, "evt_1", time.Minute))
		})
	}
}

// The test checks that the events that a sweep was deleting are free again after its
// machine vanishes.
func TestVanishedInASweep(t *testing.T) {
	v := newVanishing(t)
	execSQL(t, v.db, "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN OLD; END $$")
	execSQL(t, v.db, "CREATE TRIGGER wait BEFORE DELETE ON grantexhook_events FOR EACH ROW EXECUTE FUNCTION wait()")
	_, _, err := v.other.Claim(t.Context(), "evt_1", 0)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := v.Claim(ctx, "evt_2", time.Minute); err == nil {
			t.Error("the machine got a response, although its packets were dropped")
		}
	})
	v.waitFor(t, "wait_event = 'PgSleep' AND query LIKE '%DELETE FROM \"grantexhook_events\"%'")
	v.vanish()
	wg.Wait()
	claimWithin(t, v.other, "evt_1", 6*time.Second)
}

// The test checks that other machines can go on soon if a machine vanishes in
// Migrate.
func TestVanishedInMigrate(t *testing.T) {
	v := newVanishing(t)
	execSQL(t, v.db, "DROP INDEX grantexhook_events_expires")
	require.NoError(t, v.other.Done(t.Context(), "evt_0", time.Minute))
	lock, err := v.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer lock.Rollback()
	_, err = lock.ExecContext(t.Context(), "SELECT FROM grantexhook_events FOR UPDATE")
	require.NoError(t, err)
	_, err = lock.ExecContext(t.Context(), "LOCK grantexhook_events IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := v.Migrate(ctx); err == nil {
			t.Error("the machine got a response, although its packets were dropped")
		}
	})
	v.waitFor(t, "wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%\"grantexhook_events\"%'")
	v.vanish()
	require.NoError(t, lock.Commit())
	wg.Wait()
	claimWithin(t, v.other, "evt_1", 8*time.Second)
}

// The test checks that a live handler isn't cut off before its deadline, however
// long its transaction is idle.
func TestTxIsNotCutOff(t *testing.T) {
	t.Parallel()
	s := newSQLStore(t, openPostgres(t, postgres(t, nil)), sqlstore.PostgreSQL)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.NoError(t, s.Tx(ctx, "evt_1", func(*sql.Tx) error { time.Sleep(1500 * time.Millisecond); return nil }))
}

// The test checks that the limit is only set for the transaction, and only if the
// context has a deadline.
func TestTxIdleLimit(t *testing.T) {
	db := openPostgres(t, postgres(t, map[string]string{"idle_in_transaction_session_timeout": "77min"}))
	db.SetMaxOpenConns(1)
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	limit := func(ctx context.Context, q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}) (ms int) {
		require.NoError(t, q.QueryRowContext(ctx, "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'").Scan(&ms))
		return ms
	}
	const untouched = 77 * 60 * 1000
	tests := []struct {
		name     string
		left     time.Duration // until the deadline, if there is one
		min, max int
	}{
		{"no deadline", 0, untouched, untouched},
		{"nine seconds", 9 * time.Second, 9001, 10_000},
		{"an hour", time.Hour, 3_600_001, 3_601_000},
		{"a year", 365 * 24 * time.Hour, 1<<31 - 1, 1<<31 - 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			if test.left != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.left)
				defer cancel()
			}
			require.NoError(t, s.Tx(ctx, test.name, func(tx *sql.Tx) error {
				got := limit(ctx, tx)
				require.GreaterOrEqual(t, got, test.min)
				require.LessOrEqual(t, got, test.max)
				return nil
			}))
			require.Equal(t, untouched, limit(t.Context(), db))
		})
	}
}

// The test checks that the error says so if the server ends a transaction.
func TestTxThatTheServerEnded(t *testing.T) {
	s := newSQLStore(t, openPostgres(t, postgres(t, nil)), sqlstore.PostgreSQL)
	endSoon := func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "SET LOCAL idle_in_transaction_session_timeout = 50")
		time.Sleep(200 * time.Millisecond)
		return err
	}
	err := s.Tx(t.Context(), "evt_1", endSoon)
	require.ErrorContains(t, err, "sqlstore: committing the handling of an event: ")
	require.ErrorContains(t, err, "idle-in-transaction timeout")
	require.NoError(t, s.Tx(t.Context(), "evt_1", func(*sql.Tx) error { return nil }))
}
