package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// An ending conn belongs to a database that responds to a statement just as the
// context ends. A real database can't be made to do that.
type ending struct {
	cancel context.CancelFunc
	on     int // the statement at which the context ends
	unreached
}

func (e *ending) Connect(context.Context) (driver.Conn, error)                 { return e, nil }
func (e *ending) Prepare(string) (driver.Stmt, error)                          { panic("not used") }
func (e *ending) Close() error                                                 { return nil }
func (e *ending) Begin() (driver.Tx, error)                                    { panic("not used") }
func (e *ending) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return e, nil }
func (e *ending) Commit() error                                                { return nil }
func (e *ending) Rollback() error                                              { return nil }

func (e *ending) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	if e.on--; e.on == 0 {
		e.cancel()
		time.Sleep(50 * time.Millisecond) // database/sql notices meanwhile
	}
	return driver.RowsAffected(1), nil
}

// The test checks that a call whose context ends returns the error of the context and
// not the one of database/sql.
func TestContextEnds(t *testing.T) {
	ctx := t.Context()
	nothing := func(*sql.Tx) error { return nil }
	tests := []struct {
		name string
		on   int
		call func(ctx context.Context, s *sqlstore.Store) error
	}{
		{"while Claim sweeps", 1, func(ctx context.Context, s *sqlstore.Store) error {
			_, _, err := s.Claim(ctx, "evt_1", time.Minute)
			return err
		}},
		{"while Tx marks", 1, func(ctx context.Context, s *sqlstore.Store) error { return s.Tx(ctx, "evt_1", nothing) }},
		{"while Migrate creates", 2, func(ctx context.Context, s *sqlstore.Store) error { return s.Migrate(ctx) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			db := sql.OpenDB(&ending{cancel: cancel, on: test.on})
			defer db.Close()
			s, err := sqlstore.New(db, sqlstore.SQLite, nil)
			require.NoError(t, err)
			err = test.call(ctx, s)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, sql.ErrTxDone)
		})
	}
}

// The test checks that the error of Tx gives the reason if the function goes on after
// the context has ended. The error that the function gets doesn't.
func TestContextEndsInTx(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := sql.OpenDB(&ending{cancel: cancel, on: 2})
	defer db.Close()
	s, err := sqlstore.New(db, sqlstore.SQLite, nil)
	require.NoError(t, err)
	err = s.Tx(ctx, "evt_1", func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO notices DEFAULT VALUES"); err != nil {
			return err
		}
		_, err := tx.Exec("INSERT INTO notices DEFAULT VALUES")
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, sql.ErrTxDone)
}
