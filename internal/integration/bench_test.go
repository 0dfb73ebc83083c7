package integration

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/redisstore"
	"grantex.dev/grantexhook/riverinbox"
	"grantex.dev/grantexhook/sqlstore"
)

// A load sends fresh events to a handler through a server on loopback.
type load struct {
	url    string
	client *http.Client
	body   []byte // with the id to replace
	id     []byte
	sent   atomic.Int64
}

func newLoad(b *testing.B, h http.Handler) *load {
	b.Helper()
	srv := httptest.NewServer(h)
	b.Cleanup(srv.Close)
	c := capture.Named("flaky.attempt-1")
	client := srv.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	return &load{url: srv.URL, client: client, body: c.Body, id: []byte(c.EventID)}
}

// send sends an event and returns how long the response took.
func (l *load) send(b *testing.B) time.Duration {
	body := bytes.Replace(l.body, l.id, fmt.Appendf(nil, "evt_%026d", l.sent.Add(1)), 1)
	start := time.Now()
	if status, _, err := post(b.Context(), l.client, l.url, inboxSecret, body); err != nil || status != http.StatusOK {
		b.Error(status, err)
	}
	return time.Since(start)
}

// round sends n events from a number of clients. It returns how long each took,
// sorted, and how long all took together.
func (l *load) round(b *testing.B, n, clients int) (each []time.Duration, all time.Duration) {
	return round(n, clients, func() time.Duration { return l.send(b) })
}

// round calls f n times, a number of calls at once. f returns how long it took.
func round(n, atOnce int, f func() time.Duration) (each []time.Duration, all time.Duration) {
	each = make([]time.Duration, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range atOnce {
		wg.Go(func() {
			for k := i; k < n; k += atOnce {
				each[k] = f()
			}
		})
	}
	wg.Wait()
	all = time.Since(start)
	slices.Sort(each)
	return each, all
}

// BenchmarkStores reports the cost of an event with each Store, relative to the
// MemoryStore. Each event is a request through a server on loopback, sent after the
// response to the last one. Rounds of the two alternate, and the ratio is the median.
func BenchmarkStores(b *testing.B) {
	handler := func(b *testing.B, s grantexhook.Store, tx *sqlstore.Store) http.Handler {
		d := &grantexhook.Dispatcher{Store: s}
		grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
			if tx == nil {
				return nil
			}
			return tx.Tx(ctx, e.ID, func(*sql.Tx) error { return nil })
		})
		return newInboxVerifier(b).Middleware(d)
	}
	postgreSQL := func(b *testing.B) *sqlstore.Store {
		return newSQLStore(b, openPostgres(b, postgres(b, nil)), sqlstore.PostgreSQL)
	}
	sqlite := func(b *testing.B) *sqlstore.Store {
		return newSQLStore(b, openSQLite(b, sqliteDSN(filepath.Join(b.TempDir(), "events.db"))), sqlstore.SQLite)
	}
	benchmarks := []struct {
		name string
		open func(*testing.B) http.Handler
	}{
		{"memory", func(b *testing.B) http.Handler { return handler(b, nil, nil) }},
		{"sqlite", func(b *testing.B) http.Handler { return handler(b, sqlite(b), nil) }},
		{"sqlite-tx", func(b *testing.B) http.Handler { s := sqlite(b); return handler(b, s, s) }},
		{"postgres", func(b *testing.B) http.Handler { return handler(b, postgreSQL(b), nil) }},
		{"postgres-tx", func(b *testing.B) http.Handler { s := postgreSQL(b); return handler(b, s, s) }},
		{"redis", func(b *testing.B) http.Handler {
			client, prefix := newRedis(b)
			s, err := redisstore.New(client, &redisstore.Options{Prefix: prefix})
			require.NoError(b, err)
			return handler(b, s, nil)
		}},
		{"inbox-sqlite", func(b *testing.B) http.Handler { h, _ := sqliteInbox(b); return h }},
		{"inbox-postgres", func(b *testing.B) http.Handler { h, _ := postgresInbox(b); return h }},
	}
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			const n = 100
			base, ours := newLoad(b, handler(b, nil, nil)), newLoad(b, bm.open(b))
			base.round(b, n, 1)
			ours.round(b, n, 1)
			var ratios []float64
			for b.Loop() {
				_, was := base.round(b, n, 1)
				_, is := ours.round(b, n, 1)
				ratios = append(ratios, float64(is)/float64(was))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// sqliteInbox and postgresInbox return the handler of an inbox that doesn't process
// its events, and a function that fills it with waiting jobs.
func sqliteInbox(b *testing.B) (h http.Handler, fill func(n int)) {
	db := openSQLite(b, sqliteDSN(filepath.Join(b.TempDir(), "inbox.db")))
	in, err := riverinbox.New(riversqlite.New(db), drop, quiet)
	require.NoError(b, err)
	return filled(b, in)
}

func postgresInbox(b *testing.B) (h http.Handler, fill func(n int)) {
	pool, err := pgxpool.New(b.Context(), postgres(b, nil))
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	in, err := riverinbox.New(riverpgxv5.New(pool), drop, quiet)
	require.NoError(b, err)
	return filled(b, in)
}

var quiet = &riverinbox.Options{Log: slog.New(slog.DiscardHandler)}

func drop(context.Context, []byte) error { return nil }

func filled[TTx any](b *testing.B, in *riverinbox.Inbox[TTx]) (http.Handler, func(int)) {
	require.NoError(b, in.Migrate(b.Context()))
	return in.Handler(newInboxVerifier(b).Middleware), func(n int) {
		for n > 0 {
			some := make([]river.InsertManyParams, min(n, 1000))
			for i := range some {
				some[i].Args = waiting{ID: fmt.Sprint("waiting ", n, " ", i), Type: "token.issued", Body: bytes.Repeat([]byte("x"), 330)}
			}
			_, err := in.Client().InsertMany(b.Context(), some)
			require.NoError(b, err)
			n -= len(some)
		}
	}
}

// waiting is the job that the inbox stores, whose type isn't exported.
type waiting struct {
	ID   string `json:"id" river:"unique"`
	Type string `json:"type"`
	Body []byte `json:"body"`
}

func (waiting) Kind() string { return "grantex_event" }

func (waiting) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: "grantexhook", UniqueOpts: river.UniqueOpts{ByArgs: true}}
}

// BenchmarkInbox reports how many deliveries a second an inbox stores from eight
// concurrent clients, how long the slowest hundredth of the responses take, and how
// that compares to an empty inbox in the same run.
func BenchmarkInbox(b *testing.B) {
	const n, clients = 400, 8
	for name, open := range map[string]func(*testing.B) (http.Handler, func(int)){"sqlite": sqliteInbox, "postgres": postgresInbox} {
		for _, jobs := range []int{0, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d-waiting", name, jobs), func(b *testing.B) {
				emptyHandler, _ := open(b)
				fullHandler, fill := open(b)
				fill(jobs)
				empty, full := newLoad(b, emptyHandler), newLoad(b, fullHandler)
				empty.round(b, n, clients)
				full.round(b, n, clients)
				var ratios []float64
				var each []time.Duration
				var spent time.Duration
				for b.Loop() {
					_, was := empty.round(b, n, clients)
					took, is := full.round(b, n, clients)
					ratios = append(ratios, float64(is)/float64(was))
					each, spent = append(each, took...), spent+is
				}
				slices.Sort(ratios)
				slices.Sort(each)
				b.ReportMetric(ratios[len(ratios)/2], "ratio")
				b.ReportMetric(float64(len(each))/spent.Seconds(), "deliveries/s")
				b.ReportMetric(each[len(each)*99/100].Seconds()*1000, "p99-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
