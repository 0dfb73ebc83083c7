package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// keep is how long Tx marks an event as done: as long as a Dispatcher does.
const keep = 24 * time.Hour

// Tx calls f in a transaction that also marks the event id as done, unless it is
// done already: then f is not called, and Tx returns nil. What f writes through
// its transaction and the mark are committed together or not at all. It is for
// the inside of a handler; claiming the event stays with the Dispatcher.
//
// The mark comes first. A second Tx for the same event waits there for the first
// one to end, and then does nothing if that was committed, or takes its place.
// The event is marked for 24 hours, after which Tx would call f again.
//
// The transaction has the default isolation level of the database and is rolled
// back when ctx ends, or if f panics. The error is that of f as it is, or that of
// the database; after an error of the commit, the event may be done or not, and
// the next Tx finds out. f is called once at most, also at isolation levels where
// a commit can fail for what others did; that error has SQLSTATE 40001.
//
// f must do its work through the transaction, return the first error that a
// statement gives it, and not end the transaction, with SQL neither: after some
// errors SQLite has rolled back already, and what f writes then stays, without the
// mark. What f does through another connection is no part of the transaction; it
// waits for it if it needs the same rows, and in SQLite if it writes, or if there is
// only one connection. f should be short, since others wait for it, each with a
// connection: those of the same event, a Claim included, and in SQLite everyone who
// writes.
//
// Once Tx has returned nil, the event is done, even if the handler then fails: let
// it be the last thing that a handler does, and call it once.
func (s *Store) Tx(ctx context.Context, id string, f func(*sql.Tx) error) error {
	tx, marked, err := s.begin(ctx, id)
	if err != nil {
		return fmt.Errorf("sqlstore: marking an event as done in a transaction: %w", err)
	}
	defer tx.Rollback()
	if !marked {
		return nil
	}
	if err := f(tx); err != nil {
		return explained(ctx, err)
	}
	if err := ended(ctx, tx.Commit()); err != nil {
		return fmt.Errorf("sqlstore: committing the handling of an event: %w", err)
	}
	return nil
}

// ended returns the error of ctx where err doesn't say that ctx ended.
func ended(ctx context.Context, err error) error {
	if hidesEnd(ctx, err) {
		return ctx.Err()
	}
	return err
}

// explained adds the error of ctx if f got only the error that [ended] replaces.
func explained(ctx context.Context, err error) error {
	if hidesEnd(ctx, err) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// hidesEnd reports whether err is only a result of the end of ctx. database/sql
// says that it has rolled back, and pq that PostgreSQL canceled the statement.
func hidesEnd(ctx context.Context, err error) bool {
	const queryCanceled = "57014"
	return ctx.Err() != nil && (errors.Is(err, sql.ErrTxDone) || hasState(err, queryCanceled))
}

// begin starts a transaction with the mark; marked is false if the event was
// done before.
func (s *Store) begin(ctx context.Context, id string) (tx *sql.Tx, marked bool, err error) {
	err = retry(ctx, func() error {
		if tx, err = s.db.BeginTx(ctx, nil); err != nil {
			return err
		}
		marked, err = s.mark(ctx, tx, id)
		if err != nil {
			tx.Rollback()
		}
		return err
	})
	return tx, marked, err
}

func (s *Store) mark(ctx context.Context, tx *sql.Tx, id string) (marked bool, err error) {
	result, err := tx.ExecContext(ctx, s.sql.mark, s.limited(ctx, id, keep.Seconds())...)
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows > 0, err
}
