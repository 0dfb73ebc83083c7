package riverinbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"grantex.dev/grantexhook/riverinbox"
)

type inbox = riverinbox.Inbox[*sql.Tx]

// open opens a database as the documentation says.
func open(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func newInbox(t testing.TB, db *sql.DB, dispatch func(context.Context, []byte) error, opts *riverinbox.Options) *inbox {
	t.Helper()
	if opts == nil {
		opts = &riverinbox.Options{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	in, err := riverinbox.New(riversqlite.New(db), dispatch, opts)
	require.NoError(t, err)
	require.NoError(t, in.Migrate(t.Context()))
	return in
}

func start(t testing.TB, in *inbox) {
	t.Helper()
	require.NoError(t, in.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, in.Stop(ctx))
	})
}

// trusted replaces the Middleware of a Verifier, since this module doesn't import
// grantexhook.
func trusted(next http.Handler) http.Handler { return next }

func post(h http.Handler, body string) (status int, answer string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", io.NopCloser(bytes.NewReader([]byte(body)))))
	return w.Code, w.Body.String()
}

func ignore(context.Context, []byte) error { return nil }
