// Package riverinbox takes the webhooks of Grantex in, answers, and works them
// off later: for work that takes longer than the ten seconds that Grantex waits,
// and for events that must survive a crash. It keeps them with River
// (https://riverqueue.com), a job queue in a database: SQLite, which needs no
// server, or PostgreSQL, which several machines can share.
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
// v is the grantexhook.Verifier and d the grantexhook.Dispatcher, with the same
// handlers as it would have behind the middleware; its Store can stay nil.
//
// # What it promises
//
// An answer of 200 means that the event is committed to the database. It is then
// handed to Dispatch until that returns nil, at least once: again if it returned
// an error, if it panicked, if its time was over, and if its process died. River
// tries 25 times within about three weeks, the first time again after a second,
// then 16, 81, 256 and so on, a tenth more or less; an attempt whose process died
// counts as one. After the last it gives the event up, logs that at level Error, and
// keeps the event for a week. Earlier failures are logged at level Info, except for
// the first malformed attempt, which is logged at level Error (see below). The stack
// of a panic is in the error that Dispatcher.Trace gets. Configure changes the
// schedule, the number of attempts and how long events are kept.
//
// An event that comes again while the inbox still has it is answered with 200 and
// not stored a second time, whether it waits, runs, was handled, given up or
// cancelled. The inbox has it for 24 hours after it was handled or cancelled.
//
// [Options].Timeout is the time for one attempt, and the deadline of the context
// that the handler is given. Dispatcher.Timeout has no part in it. A handler that
// goes on for five seconds longer is taken for dead: its event is handled again
// beside it, and other events no longer wait for its place. So it has to return
// when its context ends.
//
// The Timeout has to be the same in all processes that share a database: that of
// River's leader decides what is taken for dead, and with a shorter one there, the
// events of the others run twice. Before a longer Timeout goes live, stop the
// processes with the shorter one. The leader compares its own clock with the
// database's, so more than a few seconds between them have the same effect.
//
// When a process is killed, another one, or the same one after its next start,
// takes its events up again: once Timeout and five seconds have passed since the
// attempt began, River finds it within half a minute and tries it again as after
// any failure. A first attempt is taken up in less than Timeout + 45 s; an event
// that had failed n times waits (n+1)⁴ seconds more. If the Dispatcher has a Store
// that outlives the process, its claim stands for twice the Timeout; until then,
// attempts fail with ErrInFlight and are made again.
//
// # Malformed events
//
// An inbox doesn't know the types of events. It answers 422 only if the body isn't a
// JSON object with a non-empty string id and type. It stores everything else,
// whatever createdAt and data are. So if data doesn't fit the handler's type, you
// find out when the event is dispatched. The event is then retried as after any
// failure, because the next release of your program may be able to handle it.
//
// The first malformed attempt at an event is logged at level Error, with the ids of
// the event and of River's job. You should alert on it, because every retry fails
// the same way until something changes. Fix the handler's type and deploy, and the
// next retry handles the event. To retry right away, use River's web interface or
// inbox.Client().JobRetry. Both also work for a week after River has given the event
// up. If the event isn't worth handling, cancel its job with JobCancel.
//
// An attempt is malformed if its error, or an error that it wraps, has a method
// Malformed() bool that returns true. Errors of Dispatch that match
// grantexhook.ErrMalformed have one, and your own errors may have one too.
//
// # How a delivery was verified
//
// grantexhook.VerificationFrom returns a zero Verification and false in a handler
// behind an inbox: the event is handled later, perhaps by another process, and only
// its body is stored. If you ignore the bool, SecretIndex 0 looks as if every
// delivery had been signed with the new secret. To see whether an old secret is
// still in use, look between the Verifier and the inbox:
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
// River's own middleware for OpenTelemetry links the work to the request and counts
// both. It's in the module github.com/riverqueue/rivercontrib/otelriver, which this
// one doesn't require:
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
// otelhook is a child of river.work. River's span has the text of the handler's
// error as its status, so keep secrets and principals out of your errors, or drop
// the status in the exporter. otelhook never records the text of an error.
//
// The counter river.insert_count counts inserted events. Its label
// unique_skipped_as_duplicate marks events that the inbox had already, and its label
// status is error if the database rejected the insert. It counts before the commit,
// and not at all if the database can't be reached. For deliveries that weren't
// stored, use the metrics of otelhttp: they have status code 422 or 503.
//
// The counter river.work_count counts attempts, by number and status. Status error
// in attempt 25, or in the MaxAttempts that Configure sets, means that an event was
// given up. If the process dies in the last attempt, only the log shows it.
//
// # What it needs
//
// A database, or in PostgreSQL a schema, of its own. River's leader gives up the
// interrupted jobs of every kind that it does not know, so that two programs with
// different kinds of job in the same tables would lose work to each other. And as
// events are known by their id, an inbox belongs to one service.
//
// With SQLite, the options in the example above are all needed: others wait for
// the writer instead of failing, and what was committed survives the loss of
// power. River says of its driver for SQLite that it is "in early testing", with
// "minimal real world use as of yet" (version 0.51), and it does not build for
// platforms with 32 bits. SQLite has one writer: the file belongs on a local disk,
// used by the processes of one machine. Use the handle for nothing else: it has one
// connection, and deliveries wait for it. The file consists of three, with -wal and
// -shm; close it before copying one.
//
// With PostgreSQL, any number of processes on any number of machines take in and
// work off together; one that never calls [Inbox.Start] only takes in. A failover can
// leave connections open to a server that has become read-only. By default pgxpool
// keeps them for an hour, which is longer than Grantex retries. So open the pool like
// this, and keep the sum of all pools below the server's max_connections:
//
//	pool, err := pgxpool.New(ctx, "postgres://…/app?target_session_attrs=read-write&pool_max_conns=20&pool_max_conn_lifetime=3m")
//
// Behind PgBouncer in transaction mode, add default_query_exec_mode=cache_describe
// (or exec). Otherwise prepared statements are lost between transactions, and most
// deliveries get 503. Also set PollOnly in Configure, since LISTEN doesn't work
// there. PgBouncer doesn't accept a search_path from a client, so use
// [Options].Schema.
//
// Use read committed, PostgreSQL's default isolation level. If
// default_transaction_isolation is repeatable read or serializable, conflicting
// inserts are retried until the nine seconds for storing are over, and River
// retries its own statements. Deliveries aren't rejected for that, but River logs
// its conflicts at level Error. To avoid them, add
// default_transaction_isolation=read%20committed to the inbox's connection string.
// Behind a pooler, set it with ALTER ROLE instead.
//
// The role that calls [Inbox.Migrate] needs USAGE and CREATE on the schema, and
// owns the tables it creates. If another role runs the inbox, grant it these rights
// after each migration:
//
//	GRANT USAGE ON SCHEMA inbox TO app;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA inbox TO app;
//	GRANT USAGE ON ALL SEQUENCES IN SCHEMA inbox TO app;
//
// That role can call Migrate too, as long as there's nothing left to create. At
// midnight UTC, River's leader rebuilds its indexes, which PostgreSQL allows only
// for the owner of the tables. The inbox works with any other role, but every night
// it logs an error for each index, for example "must be owner of index
// river_job_args_index". Either make the role a member of the owner, or turn the
// rebuilding off and run REINDEX as the owner when the indexes have grown:
//
//	opts.Configure = func(c *river.Config) { c.ReindexerIndexNames = []string{} } // nil is River's default
//
// The table river_job contains the events as they arrived, and the errors that
// handlers returned. Anyone who can read the database can read them, including the
// ids of principals. SQLite creates its file with mode 0644. If you create the file
// with mode 0600 before you open the database, -wal and -shm get the same mode:
//
//	f, err := os.OpenFile("inbox.db", os.O_CREATE|os.O_RDWR, 0o600)
//	...
//	err = f.Close()
//
// If events must be deleted sooner than River deletes them, set the retention
// periods in Configure.
//
// River, its drivers, its web interface and otelriver are licensed under the
// MPL-2.0, which covers their own files; this module is Apache-2.0.
//
// # Looking into it
//
// River's web interface (riverqueue.com/riverui) shows what waits, runs and
// failed, and can retry it. Behind whatever guards your other internal pages:
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
// JobListHideArgsByDefault hides bodies on the page; the API still returns them. An
// event that was handled is not handled again by a retry there, as long as the
// Dispatcher's Store remembers it.
package riverinbox
