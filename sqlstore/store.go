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
	// sweepEvery is the number of claims for each sweep. A sweep deletes up to 512
	// rows, so rows are deleted four times as fast as they can be added.
	sweepEvery = 128

	// maxTries bounds how often a statement that conflicts with others is tried.
	maxTries = 100
)

// Options configures [New]. The zero value is ready to use.
type Options struct {
	// Table is the name of the table. If empty, it's "grantexhook_events". It can
	// have up to 55 lower-case letters, digits and underscores, and can't begin
	// with a digit. In PostgreSQL, you can put a schema and a dot before it. The
	// table's index is called <table>_expires, and that name must be free too.
	//
	// A table belongs to one service. A second service sharing it would find
	// events it never saw marked done.
	Table string
}

// A Store is a grantexhook.Store in a table of a SQL database, with a row for each
// event that is claimed or done. Use [New] to create one; the zero value isn't
// usable. Any number of goroutines and processes can use it at the same time.
//
// Claim, Done and Release are one statement each. A Store has no goroutine. Instead,
// its first Claim and every 128th after that begin by deleting up to 512 expired rows.
// If that fails, so does the Claim.
type Store struct {
	db     *sql.DB
	sql    statements
	claims atomic.Uint64
}

// New returns a Store that uses db. You configure db and close it. A nil opts is the
// zero [Options]. New doesn't connect to the database; [Store.Migrate] creates the
// table.
//
// New returns an error if db is nil, if d is unknown, or if the table's name isn't
// valid.
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

// Claim implements grantexhook.Store. If a [Store.Tx] of the same event is open,
// Claim waits for it to end. If ctx ends or the connection breaks before the database
// responds, Claim returns an error, but id may be claimed until the lease expires.
//
// In PostgreSQL, Claim doesn't wait until a claim is on disk. A server that crashes
// can lose it, and another attempt can then run at the same time.
func (s *Store) Claim(ctx context.Context, id string, lease time.Duration) (token int64, done bool, err error) {
	if err := s.sweep(ctx); err != nil {
		return 0, false, fmt.Errorf("sqlstore: deleting expired rows: %w", err)
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

// Done implements grantexhook.Store. It writes nothing if id is already marked as done
// for as long, or up to a thousandth longer. After [Store.Tx], that's usually so.
func (s *Store) Done(ctx context.Context, id string, keep time.Duration) error {
	if err := s.exec(ctx, s.sql.done, id, keep.Seconds()); err != nil {
		return fmt.Errorf("sqlstore: marking an event as done: %w", err)
	}
	return nil
}

// Release implements grantexhook.Store. Like Claim, it doesn't wait for the disk in
// PostgreSQL. If the server loses the release, id stays claimed until the lease expires.
func (s *Store) Release(ctx context.Context, id string, token int64) error {
	if token == doneToken {
		return nil
	}
	if err := s.exec(ctx, s.sql.release, id, token); err != nil {
		return fmt.Errorf("sqlstore: releasing an event: %w", err)
	}
	return nil
}

// sweep comes before the claim, so a Claim that fails here hasn't claimed the event.
// It reads the whole table, which would make other transactions fail at a higher
// isolation level.
func (s *Store) sweep(ctx context.Context) error {
	if s.claims.Add(1)%sweepEvery != 1 {
		return nil
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.sql.sweep, s.limited(ctx)...)
		return ended(ctx, err)
	})
}

// inTx commits what f does. At its isolation level, each statement sees what other
// transactions committed before it.
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

// retry calls f until it doesn't conflict with others.
func retry(ctx context.Context, f func() error) (err error) {
	for range maxTries {
		if err = f(); !conflicts(err) || ctx.Err() != nil {
			return ended(ctx, err)
		}
	}
	return err
}

// conflicts reports whether a statement failed because of a concurrent transaction. The
// PostgreSQL drivers don't share an error type, but the errors of pgx and pq both have
// a method that returns the code.
func conflicts(err error) bool {
	const serializationFailure, deadlockDetected = "40001", "40P01"
	return hasState(err, serializationFailure, deadlockDetected)
}

func hasState(err error, states ...string) bool {
	var coded interface{ SQLState() string }
	return errors.As(err, &coded) && slices.Contains(states, coded.SQLState())
}
