package sqlstore

import (
	"context"
	"fmt"
	"strings"
)

// Migrate creates the table of the Store and its index if there are none. Several
// processes may do so at once.
func (s *Store) Migrate(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlstore: creating the table: %w", err)
	}
	defer tx.Rollback()
	for _, statement := range s.sql.migrate {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("sqlstore: creating the table: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlstore: creating the table: %w", err)
	}
	return nil
}

// Schema returns the statements of [Store.Migrate], for those who keep their
// migrations in files. They belong in one transaction.
func (s *Store) Schema() string {
	return strings.Join(s.sql.migrate, ";\n") + ";\n"
}
