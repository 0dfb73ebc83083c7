package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// sweepEvery and the 512 rows of a sweep let rows go four times as fast as
	// they can come.
	sweepEvery = 128

	// maxTries is how often a statement is tried that the isolation level
	// refuses.
	maxTries = 100
)

// Options are the choices that [New] offers. The zero value is ready to use.
type Options struct {
	// Table is the name of the table: "grantexhook_events" if empty. It consists
	// of up to 55 lower-case letters, digits and underscores, does not begin with
	// a digit, and in PostgreSQL may have a schema before it, with a dot. Nothing
	// else there may be called <table>_expires, which is its index. A table
	// belongs to one service: a second one on the same table would be told "done"
	// of events that it never saw.
	Table string
}

// A Store is a grantexhook.Store in a table of a SQL database, with a row for
// each event that is claimed or done. It is made by [New]; the zero value is not
// usable. It is safe for concurrent use, by any number of processes.
//
// Claim, Done and Release are one statement each. There is no background
// goroutine: the first Claim of a Store, and every 128th after it, begins by
// deleting up to 512 rows that have expired, and fails if it cannot.
type Store struct {
	db     *sql.DB
	sql    statements
	claims atomic.Uint64
}

// New returns a Store in db, which stays the caller's to configure and to close.
// A nil opts is the zero [Options]. It does not connect; [Store.Migrate] creates
// the table.
//
// It is an error if db is nil, if d is none of the dialects, or if the name of
// the table is not as [Options] says.
func New(db *sql.DB, d Dialect, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if db == nil {
		return nil, errors.New("sqlstore: db is nil; open it with sql.Open")
	}
	s, err := d.statements(opts.Table)
	if err != nil {
		return nil, err
	}
	return &Store{db: db, sql: s}, nil
}

// Claim implements grantexhook.Store. While a [Store.Tx] of the same event is
// open, it waits for that to end. An error may leave id claimed for the time of
// lease, if ctx ended or the connection broke before the answer of the database
// came.
func (s *Store) Claim(ctx context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	if err := s.sweep(ctx); err != nil {
		return 0, false, fmt.Errorf("sqlstore: deleting rows that have expired: %w", err)
	}
	mine := 1 + rand.Int64N(math.MaxInt64)
	var holder int64
	err = retry(ctx, func() error {
		return s.db.QueryRowContext(ctx, s.sql.claim, id, mine, lease.Seconds()).Scan(&holder)
	})
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("sqlstore: claiming an event: %w", err)
	case holder == mine:
		return mine, false, nil
	}
	return 0, holder == doneToken, nil
}

// Done implements grantexhook.Store.
func (s *Store) Done(ctx context.Context, id string, keep time.Duration) error {
	if err := s.exec(ctx, s.sql.done, id, keep.Seconds()); err != nil {
		return fmt.Errorf("sqlstore: marking an event as done: %w", err)
	}
	return nil
}

// Release implements grantexhook.Store.
func (s *Store) Release(ctx context.Context, id string, token int64) error {
	if token == doneToken {
		return nil
	}
	if err := s.exec(ctx, s.sql.release, id, token); err != nil {
		return fmt.Errorf("sqlstore: releasing an event: %w", err)
	}
	return nil
}

// sweep comes before the claim, so that a Claim that fails has claimed nothing.
// At a higher level of isolation, its look at the whole table would make the
// transactions of others fail.
func (s *Store) sweep(ctx context.Context) error {
	if s.claims.Add(1)%sweepEvery != 1 {
		return nil
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.sql.sweep, s.limited(ctx)...)
		return ended(ctx, err)
	})
}

// inTx commits what f does, at a level of isolation where each statement sees what
// others have committed before it.
func (s *Store) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: s.sql.level})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return ended(ctx, tx.Commit())
}

func (s *Store) exec(ctx context.Context, statement string, args ...any) error {
	return retry(ctx, func() error {
		_, err := s.db.ExecContext(ctx, statement, args...)
		return err
	})
}

// retry calls f until the isolation level lets it through.
func retry(ctx context.Context, f func() error) (err error) {
	for range maxTries {
		if err = f(); !conflicts(err) || ctx.Err() != nil {
			return ended(ctx, err)
		}
	}
	return err
}

// conflicts reports whether a statement failed because of what another one did
// at the same time. The drivers of PostgreSQL share no error type, but pgx and pq
// have a method for the code.
func conflicts(err error) bool {
	const serializationFailure, deadlockDetected = "40001", "40P01"
	return hasState(err, serializationFailure, deadlockDetected)
}

func hasState(err error, states ...string) bool {
	var coded interface{ SQLState() string }
	return errors.As(err, &coded) && slices.Contains(states, coded.SQLState())
}
