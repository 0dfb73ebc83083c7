package integration

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"riverqueue.com/riverui"

	"grantex.dev/grantexhook/riverinbox"
)

const inboxSecret = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"

// A place is the database of an inbox: a SQLite file or a PostgreSQL schema.
type place struct{ Driver, URL string }

// onEachInbox runs a test in each kind of place. They run in parallel, after
// onEachInbox has returned.
func onEachInbox(t *testing.T, test func(*testing.T, place)) {
	t.Helper()
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, place{"sqlite", sqliteDSN(filepath.Join(t.TempDir(), "inbox.db"))})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, place{"pgx", postgres(t, nil)})
	})
}

// A testInbox is a riverinbox.Inbox with any driver.
type testInbox struct {
	inboxMethods
	jobs  func(context.Context, *river.JobListParams) (*river.JobListResult, error)
	ui    func(*riverui.HandlerOpts) (*riverui.Handler, error)
	close func()
}

type inboxMethods interface {
	Migrate(context.Context) error
	Start(context.Context) error
	Stop(context.Context) error
	Handler(verify func(http.Handler) http.Handler) http.Handler
}

// openInbox opens each database as the documentation shows.
func openInbox(ctx context.Context, p place, dispatch func(context.Context, []byte) error, opts riverinbox.Options) (*testInbox, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if p.Driver == "sqlite" {
		db, err := sql.Open("sqlite", p.URL)
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		in, err := riverinbox.New(riversqlite.New(db), dispatch, &opts)
		return wrap(in, err, func() { db.Close() })
	}
	pool, err := pgxpool.New(ctx, p.URL)
	if err != nil {
		return nil, err
	}
	in, err := riverinbox.New(riverpgxv5.New(pool), dispatch, &opts)
	return wrap(in, err, pool.Close)
}

func wrap[TTx any](in *riverinbox.Inbox[TTx], err error, close func()) (*testInbox, error) {
	if err != nil {
		close()
		return nil, err
	}
	return &testInbox{
		inboxMethods: in,
		jobs:         in.Client().JobList,
		ui: func(opts *riverui.HandlerOpts) (*riverui.Handler, error) {
			opts.Endpoints = riverui.NewEndpoints(in.Client(), nil)
			return riverui.NewHandler(opts)
		},
		close: close,
	}, nil
}

func newInbox(t testing.TB, p place, dispatch func(context.Context, []byte) error, opts riverinbox.Options) *testInbox {
	t.Helper()
	in, err := openInbox(context.Background(), p, dispatch, opts)
	require.NoError(t, err)
	t.Cleanup(in.close)
	require.NoError(t, in.Migrate(t.Context()))
	return in
}

func (in *testInbox) start(t testing.TB) {
	t.Helper()
	require.NoError(t, in.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, in.Stop(ctx))
	})
}

// count returns how many events are in a state.
func (in *testInbox) count(t testing.TB, state rivertype.JobState) int {
	t.Helper()
	n := 0
	params := river.NewJobListParams().States(state).First(10_000)
	for {
		list, err := in.jobs(t.Context(), params)
		require.NoError(t, err)
		if len(list.Jobs) == 0 {
			return n
		}
		n += len(list.Jobs)
		params = params.After(list.LastCursor)
	}
}

// An inboxLog is the log of an inbox. It's safe for concurrent use.
type inboxLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *inboxLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *inboxLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventBody(id, grant string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":%q,"cascade":false}}`, id, grant)
}
