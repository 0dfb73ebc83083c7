// Command inbox stores Grantex webhooks in a SQLite file, acknowledges them and
// processes them later. It can be killed at any time. Once it runs again, it retries an
// event that it was handling, less than a minute after the first attempt began.
package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/riverqueue/river/riverdriver/riversqlite"
	_ "modernc.org/sqlite"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/riverinbox"
)

func main() {
	v, err := grantexhook.NewVerifier(os.Getenv("GRANTEX_WEBHOOK_SECRET"), &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		log.Fatal(err)
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, revoke)

	path := cmp.Or(os.Getenv("INBOX"), "inbox.db")
	if err := createPrivate(path); err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // SQLite has one writer; the others wait here for their turn
	inbox, err := riverinbox.New(riversqlite.New(db), d.Dispatch, &riverinbox.Options{Timeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	if err := inbox.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := inbox.Start(context.Background()); err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", inbox.Handler(v.Middleware))
	serve(&http.Server{
		Addr:              cmp.Or(os.Getenv("ADDR"), ":8080"),
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      25 * time.Second, // longer than reading and storing may take
		IdleTimeout:       2 * time.Minute,
	}, inbox.Stop)
}

// createPrivate makes sure that only the owner can read the events. SQLite would
// create its file with mode 0644. New -wal and -shm files get the mode of the database
// file, but files from an earlier run keep theirs.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Chmod(name, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// revoke stands for work that takes a while. It returns early if its context ends, and
// the event is retried. It must be idempotent, and events arrive in any order;
// sqlstore/example_grants_test.go shows how to end sessions all the same. It logs the id
// with %q, so a newline in it can't start a log line.
func revoke(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
	log.Printf("grant %q: begins", e.Data.GrantID)
	select {
	case <-time.After(3 * time.Second):
		log.Printf("grant %q: revoked", e.Data.GrantID)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve runs s until the process gets a signal to stop. It then stops storing
// deliveries and waits for handlers to finish.
func serve(s *http.Server, stop func(context.Context) error) {
	signaled, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		log.Printf("listening on %s", s.Addr)
		if err := s.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-signaled.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	for _, stop := range []func(context.Context) error{s.Shutdown, stop} {
		if err := stop(ctx); err != nil {
			log.Print(err) // stored events are handled after the next start
		}
	}
}
