package riverinbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	_ "modernc.org/sqlite"

	"grantex.dev/grantexhook/riverinbox"
)

// An event is stored, acknowledged and then handled. In a program, dispatch is the
// Dispatch method of a grantexhook.Dispatcher, and verify is the Middleware of a
// grantexhook.Verifier.
func Example() {
	dir, err := os.MkdirTemp("", "riverinbox-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "inbox.db"))+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)

	handled := make(chan string)
	dispatch := func(ctx context.Context, body []byte) error {
		handled <- string(body)
		return nil
	}
	// Your program must verify deliveries. This example doesn't.
	verify := func(next http.Handler) http.Handler { return next }

	inbox, err := riverinbox.New(riversqlite.New(db), dispatch, &riverinbox.Options{
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := inbox.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	handler := inbox.Handler(verify)
	for range 2 {
		w := httptest.NewRecorder()
		body := strings.NewReader(`{"id":"evt_1","type":"grant.revoked","data":{"grantId":"grnt_1"}}`)
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/webhooks/grantex", body))
		fmt.Println(w.Code, w.Body)
	}

	if err := inbox.Start(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", <-handled)
	if err := inbox.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 200 stored
	// 200 duplicate
	// "{\"id\":\"evt_1\",\"type\":\"grant.revoked\",\"data\":{\"grantId\":\"grnt_1\"}}"
}

// Configure sets options that River has and the inbox doesn't.
func ExampleOptions() {
	opts := riverinbox.Options{
		Configure: func(c *river.Config) {
			c.MaxAttempts = 10                 // then the event is given up
			c.DiscardedJobRetentionPeriod = -1 // and kept until someone deletes it
		},
	}
	_ = opts
}
