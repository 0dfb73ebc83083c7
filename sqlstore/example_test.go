package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"os"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
)

// Several processes share what was handled in PostgreSQL. The program imports a
// driver, here _ "github.com/jackc/pgx/v5/stdlib".
func Example() {
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // postgres://…/app?target_session_attrs=read-write
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	db.SetConnMaxLifetime(3 * time.Minute)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	d := grantexhook.Dispatcher{Store: store}
	grantexhook.On(&d, handleRevoked)
}

// On a single machine you don't need a server. The driver here is
// _ "modernc.org/sqlite".
func Example_sqlite() {
	db, err := sql.Open("sqlite", "file:events.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	store, err := sqlstore.New(db, sqlstore.SQLite, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	d := grantexhook.Dispatcher{Store: store}
	grantexhook.On(&d, handleRevoked)
}

// The row that the handler inserts and the mark that the event is done are committed
// together or not at all. So there's one row for each event, however often the event
// is delivered.
func ExampleStore_Tx() {
	var store *sqlstore.Store // from New
	d := grantexhook.Dispatcher{Store: store}
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		return store.Tx(ctx, e.ID, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO notices (text) VALUES ($1)", "revoked: "+e.Data.GrantID)
			return err
		})
	})
}

func handleRevoked(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error { return nil }
