package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/sqlstore"
)

// A busy conn belongs to a PostgreSQL whose table lacks its index and whose
// statements fail for a while.
type busy struct {
	err   error
	times int // how often statements fail
	tries []time.Time
	unreached
}

func (b *busy) Connect(context.Context) (driver.Conn, error)                 { return b, nil }
func (b *busy) Prepare(string) (driver.Stmt, error)                          { panic("not used") }
func (b *busy) Close() error                                                 { return nil }
func (b *busy) Begin() (driver.Tx, error)                                    { panic("not used") }
func (b *busy) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return b, nil }
func (b *busy) Commit() error                                                { return nil }
func (b *busy) Rollback() error                                              { return nil }

func (b *busy) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	if b.times > 0 {
		b.times--
		b.tries = append(b.tries, time.Now())
		return nil, b.err
	}
	b.err = nil
	return driver.RowsAffected(1), nil
}

func (b *busy) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &found{true, true, true, b.err == nil, ""}, nil
}

// found is the only row of a result.
type found []driver.Value

func (f *found) Columns() []string { return []string{"table", "columns", "key", "index", "invalid"} }
func (f *found) Close() error      { return nil }

func (f *found) Next(row []driver.Value) error {
	if *f == nil {
		return io.EOF
	}
	copy(row, *f)
	*f = nil
	return nil
}

type state string

func (s state) Error() string    { return "failed with " + string(s) }
func (s state) SQLState() string { return string(s) }

func TestMigrateTriesAgain(t *testing.T) {
	tests := []struct {
		name         string
		err          error
		times, tries int
		want         error
	}{
		{"a lock that isn't available", state("55P03"), 3, 3, nil},
		{"for longer", state("55P03"), 30, 30, nil},
		{"a deadlock", state("40P01"), 3, 3, nil},
		{"a tuple that was updated meanwhile", state("XX000"), 5, 5, nil},
		{"an internal error that doesn't go away", state("XX000"), 100, 6, state("XX000")},
		{"a conflict", state("40001"), 3, 3, nil},
		{"a missing right", state("42501"), 3, 1, state("42501")},
		{"no state", errors.ErrUnsupported, 3, 1, errors.ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &busy{err: test.err, times: test.times}
				require.ErrorIs(t, migrate(t, t.Context(), b), test.want)
				require.Len(t, b.tries, test.tries)
				for i := range b.tries[1:] {
					pause := b.tries[i+1].Sub(b.tries[i])
					require.GreaterOrEqual(t, pause, time.Second/2)
					require.Less(t, pause, 3*time.Second/2)
				}
			})
		})
	}
}

// The test checks that between two tries, Migrate waits only as long as its context
// lasts.
func TestMigrateWaitsUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
		defer cancel()
		begin := time.Now()
		err := migrate(t, ctx, &busy{err: state("55P03"), times: 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, state("55P03"), "what it waited for")
		require.Equal(t, time.Second/4, time.Since(begin))
	})
}

func migrate(t *testing.T, ctx context.Context, b *busy) error {
	t.Helper()
	db := sql.OpenDB(b)
	defer db.Close()
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	require.NoError(t, err)
	return s.Migrate(ctx)
}
