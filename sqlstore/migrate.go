package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Migrate creates the table of the Store and its index if they are missing.
// Several processes may call it at once.
//
// In PostgreSQL it first looks for the table, in the schema given in Options.Table or
// else along the search_path. If it finds the table with an index on expires, it
// doesn't change anything or wait for locks, and doesn't need CREATE. Otherwise it
// waits at most a second for a lock, then lets others go first and tries again until
// ctx ends. If a large table has no index, building one locks out all writers until
// it's done. CREATE INDEX CONCURRENTLY, run by hand, doesn't, and Migrate waits for
// it. An index that PostgreSQL marks as invalid and that isn't being built is dropped
// and built again.
func (s *Store) Migrate(ctx context.Context) error {
	migrate := s.migrate
	if s.sql.look == "" {
		migrate = func(ctx context.Context) error { return s.create(ctx, s.sql.migrate) }
	}
	if err := migrate(ctx); err != nil {
		return fmt.Errorf("sqlstore: creating the table: %w", err)
	}
	return nil
}

// migrate creates what it doesn't find. CREATE … IF NOT EXISTS by itself would lock
// the table even if everything exists.
func (s *Store) migrate(ctx context.Context) error {
	for created := false; ; {
		missing, err := s.missing(ctx)
		switch {
		case err != nil || len(missing) == 0:
			return err
		case created:
			return errors.New("the table lacks a column, or something else has the name of its index (the table's name and _expires); rename what is there, or set another name in Options.Table")
		}
		err = s.create(ctx, missing)
		if err != nil && !givesWay(err) {
			return err
		}
		if created = err == nil; created {
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while others held locks: %w", ctx.Err(), err)
		case <-time.After(time.Second/2 + rand.N(time.Second)):
		}
	}
}

// givesWay reports whether err means that a lock wasn't available.
func givesWay(err error) bool {
	const lockNotAvailable = "55P03"
	return conflicts(err) || hasState(err, lockNotAvailable)
}

// missing returns the statements that create what is missing. Those may find that it
// exists after all, since a table that another process is just creating can be
// visible before its columns. A table counts in any schema where the Store's other
// statements would find it, although CREATE TABLE might create another one elsewhere.
func (s *Store) missing(ctx context.Context) ([]string, error) {
	var table, columns, index bool
	var invalid string
	if err := s.db.QueryRowContext(ctx, s.sql.look).Scan(&table, &columns, &index, &invalid); err != nil {
		return nil, err
	}
	lock, createIndex := s.sql.migrate[0], s.sql.migrate[len(s.sql.migrate)-1]
	switch {
	case !table:
		return append([]string{s.sql.limits}, s.sql.migrate...), nil
	case columns && index:
		return nil, nil
	case invalid != "":
		return []string{s.sql.limits, lock, s.sql.alone, "DROP INDEX IF EXISTS " + invalid, createIndex}, nil
	}
	return []string{s.sql.limits, lock, s.sql.alone, createIndex}, nil
}

func (s *Store) create(ctx context.Context, statements []string) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return ended(ctx, err)
		}
	}
	return ended(ctx, tx.Commit())
}

// Schema returns the statements that create the table and its index, for
// migrations in files. They belong in one transaction.
//
// In PostgreSQL, CREATE INDEX locks the table even if the index exists. If an event
// is in [Store.Tx] at that moment, CREATE INDEX waits for it, and every other event
// waits behind CREATE INDEX. So run the statements once, not at every start, and put
// SET LOCAL lock_timeout = '1s' before them. The migration then fails instead of
// making others wait, and you can run it again. [Store.Migrate] does all this for you.
func (s *Store) Schema() string {
	return strings.Join(s.sql.migrate, ";\n") + ";\n"
}
