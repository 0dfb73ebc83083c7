package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Migrate creates the table of the Store and its index if they're missing. Several
// processes may call it at once. If there's a table that the Store can't use, for
// example because it has no primary key, Migrate returns an error and leaves the table
// as it is.
//
// In PostgreSQL, Migrate first looks for the table in the schema given in
// Options.Table, or else along the search_path. If it finds the table with an index on
// expires, it doesn't change anything, doesn't wait for locks and doesn't need CREATE.
// Otherwise it waits for a lock for at most a second, lets others go first and retries
// until ctx ends. It gives up earlier if PostgreSQL keeps reporting an internal error.
//
// Building an index locks out all writers, which takes a while if the table is large.
// CREATE INDEX CONCURRENTLY, run by hand, doesn't lock them out, and Migrate waits for
// it. Migrate drops and rebuilds an index that PostgreSQL marks as invalid, unless it's
// being built.
func (s *Store) Migrate(ctx context.Context) error {
	migrate := s.migrate
	if s.sql.look == "" {
		migrate = s.migrateSQLite
	}
	if err := migrate(ctx); err != nil {
		return fmt.Errorf("sqlstore: creating the table: %w", err)
	}
	return nil
}

func (s *Store) migrateSQLite(ctx context.Context) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execAll(ctx, tx, s.sql.migrate...); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql.fits, "", 1, 0); err != nil {
			return ended(ctx, fmt.Errorf("the table isn't like the one in Schema; rename it, or set another name in Options.Table: %w", err))
		}
		return nil
	})
}

// maxInternalErrors bounds retries after internal errors. One or two can come from a
// lost race; see givesWay. More have another cause, such as a damaged catalog.
const maxInternalErrors = 5

// migrate creates what it doesn't find. CREATE … IF NOT EXISTS by itself would lock
// the table even if everything exists.
func (s *Store) migrate(ctx context.Context) error {
	internal := 0
	for {
		found, err := s.look(ctx, s.db)
		if err != nil || found.complete() {
			return err
		}
		if found.columns && !found.key {
			return s.errNoKey()
		}
		err = s.createMissing(ctx)
		if hasState(err, internalError) {
			internal++
		}
		if !givesWay(err) || internal > maxInternalErrors {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while other transactions held locks: %w", ctx.Err(), err)
		case <-time.After(time.Second/2 + rand.N(time.Second)):
		}
	}
}

func (s *Store) errNoKey() error {
	return fmt.Errorf("the table has no unique key on id or has a deferrable one, so events can't be claimed; drop a deferrable key and run %s, or set another name in Options.Table", s.sql.addKey)
}

const lockNotAvailable, internalError = "55P03", "XX000"

// givesWay reports whether err can mean that another process was faster. Usually a
// lock wasn't available. An index build CONCURRENTLY releases its last lock shortly
// before it commits. In between, DROP INDEX fails with "tuple concurrently updated",
// which is an internal error to PostgreSQL.
func givesWay(err error) bool {
	return conflicts(err) || hasState(err, lockNotAvailable, internalError)
}

// A layout describes the parts of the table that exist. The table counts in any
// schema where the Store's other statements would find it, although CREATE TABLE
// might create another one elsewhere.
type layout struct {
	table, columns, key, index bool
	invalid                    string // the name of our index if PostgreSQL can't use it
}

func (l layout) complete() bool { return l.columns && l.key && l.index }

func (s *Store) look(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (l layout, err error) {
	err = db.QueryRowContext(ctx, s.sql.look).Scan(&l.table, &l.columns, &l.key, &l.index, &l.invalid)
	return l, ended(ctx, err)
}

func (s *Store) createMissing(ctx context.Context) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		missing, err := s.missing(ctx, tx)
		if err != nil || len(missing) == 0 {
			return err
		}
		if err := execAll(ctx, tx, missing...); err != nil {
			return err
		}
		found, err := s.look(ctx, tx)
		if err == nil && !found.complete() {
			err = errors.New("the table lacks a column, or something else has the name of its index (the table's name and _expires); rename what is there, or set another name in Options.Table")
		}
		return err
	})
}

// missing takes the locks, looks again, and returns the statements that create what
// is missing. Before it has the locks, another process can still create the table, and
// an index that is being built CONCURRENTLY can become valid.
func (s *Store) missing(ctx context.Context, tx *sql.Tx) ([]string, error) {
	lock, create := s.sql.migrate[0], s.sql.migrate[1:]
	if err := execAll(ctx, tx, s.sql.limits, lock); err != nil {
		return nil, err
	}
	found, err := s.look(ctx, tx)
	if err != nil || !found.table {
		return create, err
	}
	if err := execAll(ctx, tx, s.sql.alone); err != nil {
		return nil, err
	}
	createIndex := create[len(create)-1]
	found, err = s.look(ctx, tx)
	switch {
	case err != nil || found.complete():
		return nil, err
	case found.invalid != "":
		return []string{"DROP INDEX " + found.invalid, createIndex}, nil
	default:
		return []string{createIndex}, nil
	}
}

func execAll(ctx context.Context, tx *sql.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return ended(ctx, err)
		}
	}
	return nil
}

// Schema returns the statements that create the table and its index, for migrations
// in files. They belong in one transaction.
//
// In PostgreSQL, CREATE INDEX locks the table even if the index exists. If an event is
// in [Store.Tx] at that moment, CREATE INDEX waits for it, and every other event waits
// behind CREATE INDEX. So run the statements once, not at every start, and put SET
// LOCAL lock_timeout = '1s' before them. The migration then fails instead of making
// others wait, and you can run it again. [Store.Migrate] does all this for you.
func (s *Store) Schema() string {
	return strings.Join(s.sql.migrate, ";\n") + ";\n"
}
