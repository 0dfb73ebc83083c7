//go:build unix

package integration

import (
	"context"
	"database/sql"
	endian "encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
	"grantex.dev/grantexhook/sqlstore"
)

// BenchmarkDurable reports what an event costs the database of a sqlstore: how often it
// waits for the disk, its round trips, and its time relative to the least that any
// design needs. That is one prepared upsert, or with Tx the user's own transaction with
// an upsert in it. Rounds of the two alternate, and the ratio is the median. Events don't
// come through HTTP.
func BenchmarkDurable(b *testing.B) {
	engines := []struct {
		name string
		open func(*testing.B) durableEngine
	}{
		{"postgres", openDurablePostgres},
		{"sqlite", openDurableSQLite},
	}
	for _, engine := range engines {
		for _, tx := range []string{"", "-tx"} {
			for _, senders := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("%s%s/%d-senders", engine.name, tx, senders), func(b *testing.B) {
					e := engine.open(b)
					report := e.count(b, tx != "", senders)
					reportTimes(b, newDurable(b, e, tx != "", false), senders)
					report()
				})
			}
		}
	}
}

// A durableEngine is a database whose use can be counted.
type durableEngine struct {
	dialect sqlstore.Dialect
	open    func(counted bool) *sql.DB
	trips   *atomic.Int64                            // of counted connections; nil if there's no network
	syncs   func(b *testing.B) (n int, counted bool) // of counted connections that are closed
}

// A durable handles events, and does the least that any design needs.
type durable struct {
	b          *testing.B
	db         *sql.DB
	dispatcher grantexhook.Dispatcher
	upsert     *sql.Stmt
	tx         bool
}

func newDurable(b *testing.B, e durableEngine, tx, counted bool) *durable {
	d := &durable{b: b, db: e.open(counted), tx: tx}
	store := newSQLStore(b, d.db, e.dialect)
	d.dispatcher.Store = store
	grantexhook.On(&d.dispatcher, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		if !tx {
			return nil
		}
		return store.Tx(ctx, e.ID, effect(ctx, e.ID))
	})
	execSQL(b, d.db, "CREATE TABLE IF NOT EXISTS effects (event text NOT NULL)")
	expires := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "timestamptz", sqlstore.SQLite: "REAL"}[e.dialect]
	execSQL(b, d.db, "CREATE TABLE IF NOT EXISTS least (id text PRIMARY KEY, token bigint NOT NULL, expires "+expires+" NOT NULL)")
	execSQL(b, d.db, "CREATE INDEX IF NOT EXISTS least_expires ON least (expires)")
	var err error
	d.upsert, err = d.db.PrepareContext(b.Context(), "INSERT INTO least (id, token, expires) VALUES ($1, 0, $2) ON CONFLICT (id) DO UPDATE SET token = 0, expires = excluded.expires")
	require.NoError(b, err)
	return d
}

// event handles an event.
func (d *durable) event() time.Duration {
	body := eventBody(sender.NewID("evt_", time.Now()), willSucceed)
	start := time.Now()
	if err := d.dispatcher.Dispatch(d.b.Context(), body); err != nil {
		d.b.Error(err)
	}
	return time.Since(start)
}

func (d *durable) least() time.Duration {
	ctx, id, expires := d.b.Context(), sender.NewID("evt_", time.Now()), any(time.Now().Add(24*time.Hour))
	if _, ok := d.db.Driver().(*stdlib.Driver); !ok {
		expires = float64(time.Now().Unix())
	}
	start := time.Now()
	if err := d.leastOf(ctx, id, expires); err != nil {
		d.b.Error(err)
	}
	return time.Since(start)
}

func (d *durable) leastOf(ctx context.Context, id string, expires any) error {
	if !d.tx {
		_, err := d.upsert.ExecContext(ctx, id, expires)
		return err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := effect(ctx, id)(tx); err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, d.upsert).ExecContext(ctx, id, expires); err != nil {
		return err
	}
	return tx.Commit()
}

func reportTimes(b *testing.B, d *durable, senders int) {
	n := max(100, 12*senders)
	round(n, senders, d.least)
	round(n, senders, d.event)
	var ratios []float64
	var each []time.Duration
	var spent time.Duration
	for b.Loop() {
		_, was := round(n, senders, d.least)
		took, is := round(n, senders, d.event)
		ratios = append(ratios, float64(is)/float64(was))
		each, spent = append(each, took...), spent+is
	}
	slices.Sort(ratios)
	slices.Sort(each)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(float64(len(each))/spent.Seconds(), "events/s")
	b.ReportMetric(each[len(each)*99/100].Seconds()*1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// count handles some events and returns a function that reports what they cost. It isn't
// part of the measured rounds, because what a connection did is known when it's closed.
func (e durableEngine) count(b *testing.B, tx bool, senders int) (report func()) {
	const n = 512
	d := newDurable(b, e, tx, true) // creates the tables
	require.NoError(b, d.db.Close())
	before, counted := e.syncs(b)
	d = newDurable(b, e, tx, true)
	warm := 4 * senders
	round(warm, senders, d.event) // opens connections and prepares statements
	if e.trips != nil {
		e.trips.Store(0)
	}
	round(n, senders, d.event)
	require.NoError(b, d.db.Close())
	after, _ := e.syncs(b)
	return func() {
		if counted {
			b.ReportMetric(float64(after-before)/float64(warm+n), "syncs/event")
		}
		if e.trips != nil {
			b.ReportMetric(float64(e.trips.Load())/n, "trips/event")
		}
	}
}

// A tripConn counts how often a client waits for a response.
type tripConn struct {
	net.Conn
	trips *atomic.Int64
	wrote atomic.Bool
}

func (c *tripConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(p)
}

func (c *tripConn) Read(p []byte) (int, error) {
	if c.wrote.Swap(false) {
		c.trips.Add(1)
	}
	return c.Conn.Read(p)
}

func openDurablePostgres(b *testing.B) durableEngine {
	server := newPrivatePostgres(b, "shared_buffers=128MB")
	trips := new(atomic.Int64)
	config, err := pgx.ParseConfig(server.url())
	require.NoError(b, err)
	dial := config.DialFunc
	counted := config.Copy()
	counted.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &tripConn{Conn: conn, trips: trips}, nil
	}
	return durableEngine{
		dialect: sqlstore.PostgreSQL,
		open: func(count bool) *sql.DB {
			db := stdlib.OpenDB(*map[bool]*pgx.ConnConfig{false: config, true: counted}[count])
			b.Cleanup(func() { db.Close() })
			db.SetMaxOpenConns(20) // as in sqlstore's documentation
			db.SetMaxIdleConns(20)
			return db
		},
		trips: trips,
		syncs: server.walSyncs,
	}
}

// walSyncs returns how often the server has synced its WAL. A connection adds what it
// did when it closes.
func (p *privatePostgres) walSyncs(b *testing.B) (n int, counted bool) {
	db := openPostgres(b, p.url())
	defer db.Close()
	value := func(query string) (n int) {
		require.NoError(b, db.QueryRowContext(b.Context(), query).Scan(&n))
		return n
	}
	require.Eventually(b, func() bool {
		return value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()") == 0
	}, patience, 10*time.Millisecond)
	switch version := value("SELECT current_setting('server_version_num')::int"); {
	case version >= 18_00_00:
		return value("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'"), true
	case version >= 15_00_00:
		return value("SELECT wal_sync FROM pg_stat_wal"), true
	}
	return 0, false
}

func openDurableSQLite(b *testing.B) durableEngine {
	dir := b.TempDir()
	counted := sqliteDSN(filepath.Join(dir, "counted.db")) + "&_pragma=wal_autocheckpoint(0)"
	keep := openSQLite(b, counted) // the last connection that closes deletes the WAL
	execSQL(b, keep, "CREATE TABLE keep (id int)")
	return durableEngine{
		dialect: sqlstore.SQLite,
		open: func(count bool) *sql.DB {
			if count {
				return openSQLite(b, counted)
			}
			return openSQLite(b, sqliteDSN(filepath.Join(dir, "timed.db")))
		},
		syncs: func(b *testing.B) (int, bool) { return walCommits(b, filepath.Join(dir, "counted.db-wal")), true },
	}
}

// walCommits returns how many commits the WAL of SQLite contains. SQLite syncs it once
// for each. The syncs of checkpoints, which are rare, don't count.
func walCommits(b *testing.B, path string) (commits int) {
	const header, frameHeader = 32, 24
	wal, err := os.ReadFile(path)
	require.NoError(b, err)
	require.Greater(b, len(wal), header)
	page := int(endian.BigEndian.Uint32(wal[8:]))
	salts := string(wal[16:24])
	for frame := wal[header:]; len(frame) >= frameHeader+page; frame = frame[frameHeader+page:] {
		size := endian.BigEndian.Uint32(frame[4:]) // of the database after the commit, or 0
		if size != 0 && string(frame[8:16]) == salts {
			commits++
		}
	}
	return commits
}
