// Package riverinbox stores Grantex webhooks, acknowledges them and processes them
// later. Use it for work that takes longer than the ten seconds that Grantex waits, and
// for events that must survive a crash. River (https://riverqueue.com), a job queue in
// a database, stores the events. The database is SQLite, which needs no server, or
// PostgreSQL for several machines.
//
//	db, err := sql.Open("sqlite", "file:inbox.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	...
//	db.SetMaxOpenConns(1) // create inbox.db with mode 0600 first, as shown below
//	inbox, err := riverinbox.New(riversqlite.New(db), d.Dispatch, nil) // PostgreSQL: riverpgxv5.New(pool)
//	...
//	err = inbox.Migrate(ctx)
//	...
//	err = inbox.Start(ctx)
//	...
//	http.Handle("POST /webhooks/grantex", inbox.Handler(v.Middleware))
//
// v is the grantexhook.Verifier and d the grantexhook.Dispatcher. The handlers are the
// same as behind the middleware. The Dispatcher's Store can stay nil.
//
// # Promises
//
// A 200 means that the event is committed to the database. The inbox then passes it to
// Dispatch until Dispatch returns nil. So handlers run at least once. They run again
// after an error, a panic or a timeout, or if the process dies. Like Grantex, an inbox
// doesn't preserve the order of events.
//
// River makes 25 attempts within about three weeks. The first retry comes after a
// second. Later ones come after 16, 81, 256 seconds and so on, give or take 10%. An
// attempt counts even if its process died. After the last attempt, the event is given
// up, which is logged at level Error, and kept for a week. Other failures are logged at
// level Info, except for the first malformed attempt (see below). The stack of a panic
// is in the error that Dispatcher.Trace gets. Configure can change the schedule, the
// number of attempts and how long events are kept.
//
// If an event is delivered again while the inbox has it, the response is 200 and the
// event isn't stored again. That's true in any state: waiting, running, handled, given up
// or canceled. The inbox has an event for 24 hours after it was handled or canceled.
//
// If the effects of a handler are rows of a SQL database, the Tx of a sqlstore in that
// database writes them exactly once. The Dispatcher's Store can still stay nil. Tx
// remembers an event for 24 hours. The first seventeen attempts are closer together than
// that. Later ones may not be.
//
// # Timeout
//
// [Options].Timeout is the time for one attempt. It's the deadline of the handler's
// context. Dispatcher.Timeout isn't used. If a handler runs for five seconds longer,
// its event is handled again in parallel, and other events no longer wait for its
// place. So a handler should return when its context ends.
//
// The Timeout must be the same in all processes that share a database. The Timeout of
// River's leader decides which attempts are dead. If it's shorter than in another
// process, that process's events run twice. To make it longer, stop the processes with
// the shorter one first. The leader compares its own clock with the database's, so they
// shouldn't differ by more than a few seconds.
//
// If a process is killed, its events are retried by another process or after its next
// start. Once Timeout and five seconds have passed since the attempt began, River finds
// the event within half a minute and retries it as after any failure. A first attempt
// is retried in less than Timeout + 45 s. If the event failed n times before, that
// takes (n+1)⁴ seconds more. If the Dispatcher has a Store that outlives the process,
// its claim lasts twice the Timeout. Until then, attempts fail with ErrInFlight and are
// retried.
//
// # Malformed events
//
// An inbox doesn't know the event types. It responds with 422 only if the body isn't
// a JSON object with a non-empty string id and type. It stores everything else, whatever
// createdAt and data are. So if data doesn't fit the handler's type, you find out when
// the event is dispatched. The event is then retried as after any failure, because the
// next release of your program may be able to handle it.
//
// The first malformed attempt at an event is logged at level Error as "riverinbox: event
// malformed", with the ids of the event and of River's job. You should alert on it,
// because every retry fails the same way until something changes. Fix the handler's type
// and deploy, and the next retry handles the event. To retry right away, use River's web
// interface or inbox.Client().JobRetry. Both also work for a week after the event was
// given up. If the event isn't worth handling, cancel its job with JobCancel.
//
// An attempt is malformed if its error, or an error that it wraps, has a method
// Malformed() bool that returns true. Errors of Dispatch that match
// grantexhook.ErrMalformed have one, and your own errors may have one too.
//
// # How a delivery was verified
//
// In a handler behind an inbox, grantexhook.VerificationFrom returns a zero Verification
// and false: only the body is stored, and another process may handle it. If you ignore
// the bool, SecretIndex 0 looks as if every delivery had been signed with the new
// secret. To see whether an old secret is still in use, look between the Verifier and the
// inbox:
//
//	verify := func(next http.Handler) http.Handler {
//		return v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//			if verification, ok := grantexhook.VerificationFrom(r.Context()); ok && verification.SecretIndex > 0 {
//				slog.Info("delivery signed with a previous secret", "index", verification.SecretIndex)
//			}
//			next.ServeHTTP(w, r)
//		}))
//	}
//	http.Handle("POST /webhooks/grantex", inbox.Handler(verify))
//
// # Traces and metrics
//
// River has its own middleware for OpenTelemetry, in the module
// github.com/riverqueue/rivercontrib/otelriver. It links the processing to the request
// and counts both. This module doesn't require it:
//
//	opts.Configure = func(c *river.Config) {
//		c.Plugins = append(c.Plugins, otelriver.NewMiddleware(&otelriver.MiddlewareConfig{
//			EnableTracePropagation: true,
//			EnableSemanticMetrics:  true,
//		}))
//	}
//
// Each attempt then starts a new trace. Its span river.work links to the span
// river.insert_many in the trace of the request that stored the event. The span from
// otelhook is a child of river.work. River's span has the text of the handler's error as
// its status, so keep secrets and principals out of your errors, or drop the status in
// the exporter. otelhook never records the text of an error.
//
// The counter river.insert_count counts inserted events. Its label
// unique_skipped_as_duplicate marks events that the inbox had already. Its label status
// is error if the database rejected the insert. It counts before the commit, and not at
// all if the database can't be reached. For deliveries that weren't stored, use the
// metrics of otelhttp: they have status code 422 or 503.
//
// The counter river.work_count counts attempts, by number and status. Status error in
// attempt 25, or in the MaxAttempts that Configure sets, means that an event was given
// up. If the process dies in the last attempt, only the log shows it.
// EnableSemanticMetrics adds the same by the semantic conventions:
// messaging.client.sent.messages, messaging.client.consumed.messages and
// messaging.process.duration.
//
// # Databases
//
// An inbox needs a separate database. In PostgreSQL, a separate schema is enough.
// River's leader gives up interrupted jobs of kinds that it doesn't know, so two
// programs with different jobs in the same tables would lose jobs. An inbox belongs to
// one service. A second service sharing it would find events it never saw stored
// already.
//
// The table river_job contains the events as they arrived and the errors that handlers
// returned. Anyone who can read the database can read them, including the ids of
// principals. If events must be deleted sooner than River deletes them, set the
// retention periods in Configure.
//
// River, its drivers, its web interface and otelriver are licensed under the MPL-2.0,
// which covers their own files; this module is Apache-2.0.
//
// # SQLite
//
// You need all the options in the example above. With them, other writers wait instead
// of failing, and commits survive a power loss. River describes its driver for
// SQLite as "in early testing", with "minimal real world use as of yet" (version 0.51).
// The driver doesn't build for 32-bit platforms.
//
// SQLite has one writer at a time. Keep the file on a local disk and share it only
// between processes on one machine. Don't use the sql.DB for anything else: it has one
// connection and deliveries wait for it. The database consists of three files, with
// -wal and -shm. Close it before you copy one.
//
// SQLite creates its file with mode 0644. If you create the file with mode 0600 before
// you open the database, -wal and -shm get the same mode. Existing files keep theirs, so
// run chmod 600 inbox.db* once.
//
//	f, err := os.OpenFile("inbox.db", os.O_CREATE|os.O_RDWR, 0o600)
//	...
//	err = f.Close()
//
// # PostgreSQL
//
// Version 14 or later. River is tested with 14 to 18. This module is tested with 15.
// Any number of processes on any number of machines can store and process events
// together. A process that never calls [Inbox.Start] only stores.
//
// A failover can leave connections open to a server that has become read-only. By
// default pgxpool keeps connections for an hour, which is longer than Grantex retries.
// So open the pool like this and keep the sum of all pools below the server's
// max_connections:
//
//	pool, err := pgxpool.New(ctx, "postgres://…/app?target_session_attrs=read-write&pool_max_conns=20&pool_max_conn_lifetime=3m")
//
// Behind PgBouncer in transaction mode, add default_query_exec_mode=cache_describe (or
// exec). Otherwise prepared statements are lost between transactions and most
// deliveries get 503. Also set PollOnly in Configure, since LISTEN doesn't work there.
// PgBouncer doesn't accept a search_path from a client, so use [Options].Schema.
//
// Use read committed, PostgreSQL's default isolation level. If
// default_transaction_isolation is repeatable read or serializable, conflicting inserts
// are retried until the nine seconds for storing are over, and River retries its own
// statements. Deliveries aren't rejected for that, but River logs its conflicts at level
// Error. To avoid them, add default_transaction_isolation=read%20committed to the
// inbox's connection string. Behind a pooler, set it with ALTER ROLE instead.
//
// The role that calls [Inbox.Migrate] needs USAGE and CREATE on the schema, and owns the
// tables it creates. If another role runs the inbox, grant it these rights after each
// migration:
//
//	GRANT USAGE ON SCHEMA inbox TO app;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA inbox TO app;
//	GRANT USAGE ON ALL SEQUENCES IN SCHEMA inbox TO app;
//
// That role can call Migrate too, as long as there's nothing left to create. At
// midnight UTC, River's leader rebuilds its indexes. PostgreSQL allows that only for
// the owner of the tables. The inbox works with any other role, but every night it logs
// an error for each index, for example "must be owner of index river_job_args_index".
// Either make the role a member of the owner, or turn off the rebuilding and run REINDEX
// as the owner when the indexes have grown:
//
//	opts.Configure = func(c *river.Config) { c.ReindexerIndexNames = []string{} } // nil is River's default
//
// # Web interface
//
// River's web interface (riverqueue.com/riverui) lists events and can retry them. Mount it
// behind the protection of your other internal pages:
//
//	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
//		Endpoints:                riverui.NewEndpoints(inbox.Client(), nil),
//		Logger:                   slog.Default(),
//		Prefix:                   "/river",
//		JobListHideArgsByDefault: true,
//	})
//	...
//	err = ui.Start(ctx)
//	...
//	mux.Handle("/river/", internalOnly(ui))
//
// JobListHideArgsByDefault hides bodies on the page; the API still returns them. If you
// retry an event that was handled, it isn't handled again as long as the Dispatcher's
// Store remembers it.
package riverinbox
