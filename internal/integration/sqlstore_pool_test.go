package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
	"grantex.dev/grantexhook/storetest"
)

// The test checks a Store whose connections come from a pool that the rest of the
// program uses too.
func TestStoreOfAPool(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), postgres(t, nil)+"&pool_max_conns=4")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { db.Close() })
	s := newSQLStore(t, db, sqlstore.PostgreSQL)
	t.Run("conforms", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) grantexhook.Store { return s })
	})
	t.Run("Tx", func(t *testing.T) {
		execSQL(t, db, "CREATE TABLE effects (event text NOT NULL)")
		errFailed := errors.New("failed")
		require.ErrorIs(t, s.Tx(t.Context(), "evt_0", func(tx *sql.Tx) error {
			require.NoError(t, effect(t.Context(), "evt_0")(tx))
			return errFailed
		}), errFailed)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				id := fmt.Sprint("evt_", i%4)
				if err := s.Tx(t.Context(), id, effect(t.Context(), id)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var rows, events int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT event) FROM effects").Scan(&rows, &events))
		require.Equal(t, 4, rows)
		require.Equal(t, 4, events)
		require.Zero(t, pool.Stat().AcquiredConns(), "connections that the rest of the program can't use because of the Store")
	})
}
