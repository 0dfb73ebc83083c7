package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
)

// A sqlBackend is a database with a Store and a table of the user.
type sqlBackend struct {
	*sqlstore.Store
	dialect sqlstore.Dialect
	db      *sql.DB
	again   func() *sql.DB // as another process would open it
}

// onEachSQL runs a test on each database, at each level of isolation. They all run in
// parallel, after onEachSQL has returned.
func onEachSQL(t *testing.T, test func(*testing.T, sqlBackend)) {
	t.Helper()
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run("PostgreSQL, "+isolation, func(t *testing.T) {
			t.Parallel()
			url := postgres(t, map[string]string{"default_transaction_isolation": isolation})
			test(t, newSQLBackend(t, sqlstore.PostgreSQL, func() *sql.DB { return openPostgres(t, url) }))
		})
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		dsn := sqliteDSN(filepath.Join(t.TempDir(), "events.db"))
		test(t, newSQLBackend(t, sqlstore.SQLite, func() *sql.DB { return openSQLite(t, dsn) }))
	})
}

func newSQLBackend(t *testing.T, d sqlstore.Dialect, open func() *sql.DB) sqlBackend {
	b := sqlBackend{dialect: d, db: open(), again: open}
	b.Store = newSQLStore(t, b.db, d)
	execSQL(t, b.db, "CREATE TABLE effects (event text NOT NULL)")
	return b
}

func (b sqlBackend) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, b.db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

func (b sqlBackend) claim(t *testing.T, id string) (token int64, done bool) {
	t.Helper()
	token, done, err := b.Claim(t.Context(), id, time.Minute)
	require.NoError(t, err)
	return token, done
}

// effect is what a handler does in the database.
func effect(ctx context.Context, id string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO effects (event) VALUES ($1)", id)
		return err
	}
}

func TestTx(t *testing.T) {
	errFailed := errors.New("failed")
	fails := func(ctx context.Context, id string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error { return errors.Join(effect(ctx, id)(tx), errFailed) }
	}
	tests := []struct {
		name    string
		before  func(b sqlBackend, ctx context.Context) error
		f       func(ctx context.Context, id string) func(*sql.Tx) error
		err     error
		effects int
		done    bool
	}{
		{"a new event", nil, effect, nil, 1, true},
		{"a claimed event", func(b sqlBackend, ctx context.Context) error {
			_, _, err := b.Claim(ctx, "evt_1", time.Minute)
			return err
		}, effect, nil, 1, true},
		{"an event whose claim has expired", func(b sqlBackend, ctx context.Context) error {
			_, _, err := b.Claim(ctx, "evt_1", 0)
			return err
		}, effect, nil, 1, true},
		{"a done event", func(b sqlBackend, ctx context.Context) error { return b.Done(ctx, "evt_1", time.Minute) }, effect, nil, 0, true},
		{"a second time", func(b sqlBackend, ctx context.Context) error { return b.Tx(ctx, "evt_1", effect(ctx, "evt_1")) }, effect, nil, 1, true},
		{"after a failure", func(b sqlBackend, ctx context.Context) error {
			if err := b.Tx(ctx, "evt_1", fails(ctx, "evt_1")); err != errFailed {
				return nil
			}
			return errors.New("Tx didn't return the error of f as it is")
		}, effect, nil, 1, true},
		{"a mark that has expired", func(b sqlBackend, ctx context.Context) error { return b.Done(ctx, "evt_1", 0) }, effect, nil, 1, true},
		{"a failure", nil, fails, errFailed, 0, false},
	}
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				execSQL(t, b.db, "DELETE FROM effects")
				execSQL(t, b.db, "DELETE FROM grantexhook_events")
				ctx := t.Context()
				if test.before != nil {
					require.NoError(t, test.before(b, ctx))
				}
				require.ErrorIs(t, b.Tx(ctx, "evt_1", test.f(ctx, "evt_1")), test.err)
				require.Equal(t, test.effects, b.count(t, "effects"))
				_, done := b.claim(t, "evt_1")
				require.Equal(t, test.done, done)
			})
		}
	})
}

func TestTxRollsBack(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		t.Run("when f panics", func(t *testing.T) {
			require.PanicsWithValue(t, "sorry", func() {
				b.Tx(t.Context(), "evt_1", func(tx *sql.Tx) error {
					require.NoError(t, effect(t.Context(), "evt_1")(tx))
					panic("sorry")
				})
			})
		})
		t.Run("when the context ends", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			require.ErrorIs(t, b.Tx(ctx, "evt_1", func(tx *sql.Tx) error {
				require.NoError(t, effect(ctx, "evt_1")(tx))
				cancel()
				require.Eventually(t, func() bool {
					_, err := tx.ExecContext(context.WithoutCancel(ctx), "SELECT 1")
					return errors.Is(err, sql.ErrTxDone)
				}, 5*time.Second, time.Millisecond, "database/sql rolls back by itself")
				return nil
			}), context.Canceled)
		})
		t.Run("when f's goroutine ends", func(t *testing.T) {
			var wg sync.WaitGroup
			wg.Go(func() {
				b.Tx(t.Context(), "evt_1", func(tx *sql.Tx) error {
					if err := effect(t.Context(), "evt_1")(tx); err != nil {
						t.Error(err)
					}
					runtime.Goexit()
					return nil
				})
			})
			wg.Wait()
		})
		require.Zero(t, b.count(t, "effects"))
		token, done := b.claim(t, "evt_1")
		require.False(t, done)
		require.NotZero(t, token)
	})
}

// The test checks that of many transactions for an event at the same time, in two
// pools, one calls its function. The others wait for it and then find the event done.
func TestTxAtOnce(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		other, err := sqlstore.New(b.again(), b.dialect, nil)
		require.NoError(t, err)
		stores := []*sqlstore.Store{b.Store, other}
		for round := range 5 {
			id := fmt.Sprint("evt_", round)
			var calls atomic.Int32
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					err := stores[i%2].Tx(t.Context(), id, func(tx *sql.Tx) error {
						calls.Add(1)
						time.Sleep(5 * time.Millisecond)
						return effect(t.Context(), id)(tx)
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, calls.Load())
		}
		require.Equal(t, 5, b.count(t, "effects"))
	})
}

// The test checks that while a transaction is open, a second one for the same event
// waits, and so does a Claim. What they find depends on how the first one ends.
func TestTxIsWaitedFor(t *testing.T) {
	errFailed := errors.New("failed")
	tests := []struct {
		name string
		err  error
	}{
		{"committed", nil},
		{"rolled back", errFailed},
	}
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		other, err := sqlstore.New(b.again(), b.dialect, nil)
		require.NoError(t, err)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				var ended atomic.Bool
				var wg sync.WaitGroup
				wait := func(id string, f func(id string) (done bool, err error)) {
					done, err := f(id)
					switch {
					case err != nil:
						t.Error(err)
					case !ended.Load():
						t.Error("the transaction of", id, "wasn't waited for")
					case done != (test.err == nil):
						t.Errorf("%s: done is %t", id, done)
					}
				}
				for _, f := range []func(string) (bool, error){
					func(id string) (done bool, err error) {
						_, done, err = other.Claim(t.Context(), id, time.Minute)
						return done, err
					},
					func(id string) (done bool, err error) {
						done = true
						err = other.Tx(t.Context(), id, func(*sql.Tx) error { done = false; return nil })
						return done, err
					},
				} {
					id := randomName()
					err := b.Tx(t.Context(), id, func(*sql.Tx) error {
						ended.Store(false)
						wg.Go(func() { wait(id, f) })
						time.Sleep(100 * time.Millisecond)
						ended.Store(true)
						return test.err
					})
					require.ErrorIs(t, err, test.err)
					wg.Wait()
				}
			})
		}
	})
}

// The test checks that an attempt that was slower than its lease finds the event done
// by another attempt.
func TestTxOfAnAttemptThatLostItsClaim(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		first, _, err := b.Claim(t.Context(), "evt_1", 0)
		require.NoError(t, err)
		second, _ := b.claim(t, "evt_1")
		require.NotZero(t, second)
		require.NoError(t, b.Tx(t.Context(), "evt_1", effect(t.Context(), "evt_1")))
		require.NoError(t, b.Done(t.Context(), "evt_1", time.Minute))

		require.NoError(t, b.Tx(t.Context(), "evt_1", effect(t.Context(), "evt_1")))
		require.NoError(t, b.Release(t.Context(), "evt_1", first))
		require.Equal(t, 1, b.count(t, "effects"))
		_, done := b.claim(t, "evt_1")
		require.True(t, done)
	})
}

// The test checks that a failed commit leaves neither the rows nor the mark, and that f
// isn't called again.
func TestTxFailsToCommit(t *testing.T) {
	url := postgres(t, nil)
	db := openPostgres(t, url)
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	execSQL(t, db, "CREATE TABLE effects (event text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
	calls := 0
	twice := func(tx *sql.Tx) error {
		calls++
		return errors.Join(effect(t.Context(), "evt_1")(tx), effect(t.Context(), "evt_1")(tx))
	}
	require.ErrorContains(t, s.Tx(t.Context(), "evt_1", twice), "sqlstore: committing the handling of an event: ")
	require.Equal(t, 1, calls)
	require.NoError(t, s.Tx(t.Context(), "evt_1", effect(t.Context(), "evt_1")))
}

// The test checks that f is called once even if others make the commit fail, and that
// the error has the SQLSTATE.
func TestTxAtSerializable(t *testing.T) {
	url := postgres(t, map[string]string{"default_transaction_isolation": "serializable"})
	b := newSQLBackend(t, sqlstore.PostgreSQL, func() *sql.DB { return openPostgres(t, url) })
	calls := 0
	skewed := func(tx *sql.Tx) error { // reads what the other writes, and the other way round
		calls++
		var n int
		if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&n); err != nil {
			return err
		}
		other, err := b.db.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		defer other.Rollback()
		if err := other.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&n); err != nil {
			return err
		}
		return errors.Join(effect(t.Context(), "other")(other), other.Commit(), effect(t.Context(), "evt_1")(tx))
	}
	var state interface{ SQLState() string }
	require.ErrorAs(t, b.Tx(t.Context(), "evt_1", skewed), &state)
	require.Equal(t, "40001", state.SQLState())
	require.Equal(t, 1, calls)
	require.Equal(t, 1, b.count(t, "effects"))
}

func TestTxInAHandler(t *testing.T) {
	onEachSQL(t, func(t *testing.T, b sqlBackend) {
		d := grantexhook.Dispatcher{Store: b}
		calls := 0
		grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
			return b.Tx(ctx, e.ID, func(tx *sql.Tx) error {
				if calls++; calls == 1 {
					return errors.New("not yet")
				}
				return effect(ctx, e.ID)(tx)
			})
		})
		body := []byte(`{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"grnt_1","cascade":false}}`)
		require.EqualError(t, d.Dispatch(t.Context(), body), "not yet")
		for range 3 {
			require.NoError(t, d.Dispatch(t.Context(), body))
		}
		require.Equal(t, 2, calls)
		require.Equal(t, 1, b.count(t, "effects"))
	})
}
