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
// then 16, 81, 256 and so on; after the last it gives the event up, keeps it for
// a week and the log says so at level Error. Configure changes all of that.
//
// An event that comes again while the inbox still has it is answered with 200 and
// not stored a second time, whether it waits, runs, was handled, given up or
// cancelled. The inbox has it for 24 hours after it was handled or cancelled.
//
// [Options].Timeout is the time for one attempt, and the deadline of the context
// that the handler is given. Dispatcher.Timeout has no part in it. A handler that
// goes on for five seconds longer is taken for dead and run again beside itself,
// so it has to return when its context ends.
//
// When a process is killed, another one, or the same one after its next start,
// takes its events up again: once Timeout and five seconds have passed since the
// attempt began, River finds it within half a minute, or what its leader needs to
// be replaced, a quarter of a minute, and starts it within a few seconds. So it
// takes less than Timeout + 45 s; with a Timeout of a minute, less than two.
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
// "minimal real world use as of yet" (version 0.51). It has one writer: the file
// belongs on a local disk, used by the processes of one machine.
//
// With PostgreSQL, any number of processes on any number of machines take in and
// work off together; one that never calls [Inbox.Start] only takes in. Behind a
// pooler in transaction mode, set PollOnly in Configure.
//
// The events stand in the table river_job, column args, as they came: anyone who
// can read the database can read them, ids of principals included. Tell Configure
// if they must go sooner than River lets them.
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
package riverinbox
