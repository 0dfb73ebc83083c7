package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// keep is how long Tx marks an event as done. A Dispatcher's Done comes later and marks
// it for 24 hours. It has nothing to change if it comes within a minute.
const keep = 24*time.Hour + time.Minute

// Tx calls f in a transaction that also marks the event id as done. What f writes
// through the transaction and the mark are committed together or not at all. If the
// event is done already, Tx returns nil without calling f. Call Tx in a handler; the
// Dispatcher still claims the event.
//
// Tx writes the mark first. A second Tx for the same event waits there until the
// first one ends. If the first one was committed, the second doesn't call f.
// Otherwise it takes the first one's place. The mark lasts at least 24 hours, after
// which Tx would call f again.
//
// The transaction has the database's default isolation level. Tx rolls it back if ctx
// ends, f panics or f returns an error, which Tx then returns as it is. After an error
// of the commit, the event may or may not be done, and the next Tx finds out. Tx never
// calls f twice. At isolation levels where transactions conflict, it returns an error
// with SQLSTATE 40001 instead.
//
// f must work through its transaction and return the first error that a statement
// returns. It must neither commit nor roll back, not even in SQL. After some errors
// SQLite has already rolled back, and what f writes then is kept without the mark. If f
// turns synchronous_commit off, a crash can lose an event that was acknowledged.
//
// What f does through another connection isn't part of the transaction. It can deadlock
// with the transaction: if it needs the same rows, if it writes to the same SQLite file,
// or if the pool has only one connection.
//
// f should be short. While it runs, every Tx and Claim of the same event waits, each
// with a connection. In SQLite, all writers wait.
//
// Once Tx has returned nil, the event is done, even if the handler then fails. So call
// Tx once, as the last thing in a handler.
func (s *Store) Tx(ctx context.Context, id string, f func(*sql.Tx) error) error {
	tx, marked, err := s.begin(ctx, id)
	if err != nil {
		return fmt.Errorf("sqlstore: marking an event as done in a transaction: %w", err)
	}
	defer tx.Rollback()
	if marked { // otherwise the commit only waits until the mark of another Tx is safe
		err = f(tx)
	}
	if err != nil {
		return explained(ctx, err)
	}
	if err := ended(ctx, tx.Commit()); err != nil {
		return fmt.Errorf("sqlstore: committing the handling of an event: %w", err)
	}
	return nil
}

// ended replaces err with the error of ctx if err hides that ctx has ended.
func ended(ctx context.Context, err error) error {
	if hidesEnd(ctx, err) {
		return ctx.Err()
	}
	return err
}

// explained adds the error of ctx to an error of f that hides it.
func explained(ctx context.Context, err error) error {
	if hidesEnd(ctx, err) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// hidesEnd reports whether err is only a result of the end of ctx: database/sql
// reports that it has rolled back, and pq that PostgreSQL canceled the statement.
func hidesEnd(ctx context.Context, err error) bool {
	const queryCanceled = "57014"
	return ctx.Err() != nil && (errors.Is(err, sql.ErrTxDone) || hasState(err, queryCanceled))
}

// begin starts a transaction and writes the mark. If the event was done before, marked
// is false.
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
