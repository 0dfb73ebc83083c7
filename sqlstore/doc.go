// Package sqlstore remembers in a SQL database which events were handled. It provides
// a grantexhook.Store for processes that share a PostgreSQL server, or a SQLite file
// on one machine. It uses database/sql and doesn't import a driver.
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
// With any Store, a handler runs at least once: its process can die after the work is
// done and before the Store knows. If the work is done in the same database,
// [Store.Tx] closes the gap. It writes the work and the mark in one transaction:
//
//	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
//		return store.Tx(ctx, e.ID, func(tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, "INSERT INTO notices (text) VALUES ($1)", "revoked: "+e.Data.GrantID)
//			return err
//		})
//	})
//
// For the 24 hours of the mark, those rows are written at most once, and exactly once
// if the event is handled. That's true for any number of attempts and processes, even
// if one of them is killed. The function must return the first error that a
// statement returns, and must neither commit nor roll back. What it does elsewhere,
// for example sending a mail, can happen more than once, even if the transaction is
// rolled back.
//
// # When a grant ends
//
// When a grant is revoked, deleting its sessions isn't enough. Grantex doesn't preserve
// the order of events: a revocation can arrive before its grant.created, or before the
// token.issued that opens a session. Grantex also revokes the grants that were
// delegated from the grant, and sends no events for them. So record what each event
// says in a table of grants, and check the grant before each use. The example "Grants"
// has the table, both handlers and the check. It doesn't need a lock.
//
// The table only knows what events said, and a grant that it doesn't know counts as
// active. Some ways to end a grant don't send an event, for example withdrawing a
// consent or deleting the agent. Events can also be late or lost. Package
// grantex.dev/grantexhook/grants finds what the table misses. An expired grant counts as
// active in both, so a session must end when its token expires.
//
// # PostgreSQL
//
// Version 12 or later, tested with 15. Leases are measured only with the server's
// clock. A claim is exclusive at any isolation level. PostgreSQL can't
// store an id that contains a NUL or is longer than about 2,700 bytes, so such an id
// can't be claimed; Grantex doesn't send such ids. With asynchronous replication or
// synchronous_commit = off, a failover may lose commits. It then loses claims, marks
// and the rows that Tx committed, even for events that were acknowledged.
//
// Done, [Store.Tx] and a Claim that finds the event done wait until their commit is as
// safe as synchronous_commit asks. Other claims, releases and the deletion of expired
// rows don't wait, whatever the setting. So an event waits for the disk once, with or
// without Tx. If the server crashes or fails over within about a second, it can lose a
// claim. Another attempt can then run while the first one is still running. Handlers must
// tolerate that with any Store, and with Tx the rows are still written once. If it loses
// a release, the event can be claimed again when the lease expires.
//
// At the isolation level serializable, a Dispatcher's Done after Tx waits for the disk too.
//
// If you use pgx without database/sql, open db from your pool. The pool's limits then
// apply:
//
//	db := stdlib.OpenDBFromPool(pool) // github.com/jackc/pgx/v5/stdlib
//
// Otherwise set the limits yourself. By default database/sql keeps only two idle
// connections and opens any number of others. With 64 deliveries at once, that took
// twice as long as keeping 20 connections, and deliveries got 503 when the server ran
// out of connections. Keep the sum of all processes' limits below the server's
// max_connections.
//
// A failover can leave connections open to a server that has become read-only, and
// each delivery that uses one gets 503. Grantex may stop retrying after 450 seconds,
// so connections should live much shorter than that. With
// target_session_attrs=read-write in the URL, which pgx and github.com/lib/pq 1.11 or
// later support, new connections go to a server that can write.
//
// The user needs USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on the
// table. [Store.Migrate] doesn't need more if the table and its index exist.
// Otherwise it needs CREATE on the schema. If only the index is missing, the user
// must also own the table.
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
// Version 3.42 or later. One writer at a time locks the whole database. Without
// busy_timeout, all others fail at once. With a limit of one connection, the callers in
// a process wait for their turn instead of polling. You need all of this line, and the
// limit:
//
//	db, err := sql.Open("sqlite", "file:events.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)") // import _ "modernc.org/sqlite"
//	...
//	db.SetMaxOpenConns(1)
//
// modernc.org/sqlite and github.com/ncruces/go-sqlite3 spell the options like this.
// github.com/mattn/go-sqlite3 silently ignores them and wants
// _busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL. It waits for a lock for the
// whole busy_timeout, even if the context ends first.
//
// An event waits for the disk twice, with or without [Store.Tx]: Claim once, and Done or
// Tx once.
//
// With one connection, a function in [Store.Tx] that uses db instead of its transaction
// deadlocks until a context ends. In WAL mode, synchronous(FULL) keeps the last commits
// if the machine loses power.
//
// The rows contain the ids of events but not their data. Deleted rows can stay in
// the file until they're overwritten. With _pragma=secure_delete(1), the next
// checkpoint overwrites them, and any rows that your handler deleted. The -wal file
// keeps its content until it's overwritten; PRAGMA wal_checkpoint(TRUNCATE) empties it.
//
// # Tests in a synctest bubble
//
// A database measures leases with its own clock, which doesn't follow the fake
// clock of a testing/synctest bubble. Use a grantexhook.MemoryStore there.
package sqlstore
