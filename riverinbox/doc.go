// Package riverinbox takes the webhooks of Grantex in, answers, and works them
// off later: for work that takes longer than the ten seconds that Grantex waits,
// and for events that must survive a crash. It keeps them with River
// (https://riverqueue.com), a job queue in a database: SQLite, which needs no
// server, or PostgreSQL, which several machines can share.
//
//	db, err := sql.Open("sqlite", "file:inbox.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	...
//	db.SetMaxOpenConns(1)
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
// counts as one. After the last it gives the event up, keeps it for a week, and the
// log says so at level Error. What fails before that is logged at level Info; the
// stack of a panic is in the error that Dispatcher.Trace is told. Configure changes
// the schedule, the number of attempts and how long events are kept.
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
// leave connections open to a server that has become read-only, and the defaults of
// pgxpool keep them for an hour, longer than Grantex retries. So open the pool like
// this, with all pools together below the server's max_connections:
//
//	pool, err := pgxpool.New(ctx, "postgres://…/app?target_session_attrs=read-write&pool_max_conns=20&pool_max_conn_lifetime=3m")
//
// Behind PgBouncer in transaction mode, add default_query_exec_mode=cache_describe,
// or exec, since prepared statements are lost between transactions and most
// deliveries would get 503. Set PollOnly in Configure too, since LISTEN hears
// nothing there. PgBouncer takes no search_path from a client; use [Options].Schema.
//
// The events stand in the table river_job as they came, with the errors that
// handlers returned: anyone who can read the database can read them, ids of
// principals included. Create the file of SQLite under a umask of 077, and tell
// Configure if events must go sooner than River lets them.
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
