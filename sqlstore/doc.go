// Package sqlstore remembers in a SQL database which events were handled: a
// grantexhook.Store for several processes that share a PostgreSQL, or for one or
// more on one machine that share a SQLite file. It uses database/sql and imports
// no driver.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // postgres://…/app?target_session_attrs=read-write
//	...
//	db.SetMaxOpenConns(20)
//	db.SetMaxIdleConns(20)
//	db.SetConnMaxLifetime(3 * time.Minute)
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
//	...
//	err = store.Migrate(ctx) // creates the table if it's missing
//	...
//	d := grantexhook.Dispatcher{Store: store}
//
// # Exactly once
//
// With a Store alone, a handler runs at least once: its process can die after the
// work is done and before that is written down. Where the work is done in the
// same database, [Store.Tx] closes the gap. It writes both in one transaction:
//
//	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
//		return store.Tx(ctx, e.ID, func(tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE grant_id = $1", e.Data.GrantID)
//			return err
//		})
//	})
//
// What this promises: as long as the mark is kept, which is 24 hours, the rows
// that the function writes through its transaction are written at most once for an
// event, and once if it is handled, however often and by however many processes
// that is tried, and whenever one of them is killed. The function has to return the
// first error that a statement gives it, and must not end the transaction. What it
// does not promise: anything the function does elsewhere, such as a mail or a call
// to another service, can happen more than once, and can happen although the
// transaction is rolled back.
//
// # PostgreSQL
//
// Version 12 or later; it was tested with 15. Leases are measured only with the
// clock of the server. A claim is exclusive at any isolation level. PostgreSQL can't
// store an id that contains a NUL or is longer than about 2,700 bytes, so such an id
// can't be claimed; Grantex doesn't send such ids. With asynchronous replication or
// synchronous_commit = off, a failover may lose commits. It then loses claims, marks
// and the rows that Tx committed, even for events that were acknowledged.
//
// The user needs USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on the
// table. [Store.Migrate] doesn't need more if the table and its index exist.
// Otherwise it needs CREATE on the schema. If only the index is missing, the user
// must also own the table.
//
// By default database/sql keeps only two connections and opens any number of others.
// With 64 deliveries at once, that took twice as long as with 20 connections that
// are kept, and deliveries got 503 when the server ran out of connections. Set both
// limits, and keep their sum over all processes below the server's max_connections.
//
// A failover can leave connections open to a server that has become read-only, and
// each delivery that uses one gets 503. Grantex may stop retrying after 450 seconds,
// so connections should be much shorter-lived than that. With
// target_session_attrs=read-write in the URL, which pgx and github.com/lib/pq 1.11 or
// later support, new connections go to a server that can write.
//
// # PgBouncer
//
// In transaction mode, the next transaction may use another connection to the
// server, which doesn't have the statements that the last one prepared. With the
// drivers' defaults, most deliveries then get 503. Add to the URL:
//
//   - for pgx, default_query_exec_mode=cache_describe, or exec
//   - for github.com/lib/pq, binary_parameters=yes
//
// This was tested with PgBouncer 1.18. PgBouncer doesn't accept a search_path from a
// client. Put the schema into [Options].Table, or set the search_path with ALTER
// ROLE. PgBouncer keeps its own connections to the server, so its server_lifetime
// should be a few minutes too.
//
// # SQLite
//
// Version 3.42 or later. One writer at a time holds the whole database, and
// without busy_timeout all others fail at once, so name it where the database is
// opened, and limit the pool to one connection, which makes the callers of one
// process wait their turn instead of trying again and again:
//
//	db, err := sql.Open("sqlite", "file:events.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)") // import _ "modernc.org/sqlite"
//	...
//	db.SetMaxOpenConns(1)
//
// That is how modernc.org/sqlite and github.com/ncruces/go-sqlite3 spell it.
// github.com/mattn/go-sqlite3 ignores it without a word and wants
// _busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL; it waits for a lock as
// long as busy_timeout says even if the context ends before.
//
// With one connection, a function given to [Store.Tx] that uses db instead of its
// transaction waits for itself until its own context, or that of Tx, ends. In WAL
// mode, synchronous(FULL) is what keeps the last commits when the machine loses
// power.
//
// The rows contain the ids of events but not their data. Deleted rows can stay in
// the file until they're overwritten. With _pragma=secure_delete(1), the next
// checkpoint overwrites them, and the rows that your handler deleted too. The -wal
// file keeps its content until it's overwritten; PRAGMA wal_checkpoint(TRUNCATE)
// empties it.
//
// # Tests in a synctest bubble
//
// A database measures leases with its own clock, which doesn't follow the fake
// clock of a testing/synctest bubble. Use a grantexhook.MemoryStore there.
package sqlstore
