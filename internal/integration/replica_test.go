package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/redisstore"
	"grantex.dev/grantexhook/sqlstore"
)

const (
	// replicaVariable holds the settings of a replica. If it's set, the test binary is
	// that replica and doesn't run tests.
	replicaVariable = "GRANTEXHOOK_TEST_REPLICA"

	replicaSecret = "whsec_of_the_replicas"

	// replicaTimeout is short, so a test can wait for the lease, which is twice as
	// long.
	replicaTimeout = 1500 * time.Millisecond
	replicaLease   = 2 * replicaTimeout
)

// The GrantIDs that make the first replica that handles the event do something else.
const (
	willSucceed = "grnt_that_succeeds"
	willFail    = "grnt_that_fails_first"
	willPanic   = "grnt_that_panics_first"
	willBeLate  = "grnt_that_is_late_first"
)

// The places where a handler gets stuck and is killed.
const (
	stuckBefore = "before its effect"
	stuckInside = "with its effect not committed"
	stuckAfter  = "with its effect not marked"
)

// sharedSettings describe what the replicas share.
type sharedSettings struct {
	Driver string // of database/sql, or "redis"
	URL    string
	Prefix string // of the keys in Redis
	Tx     bool   // whether the effect is in one transaction with the mark
}

type replicaSettings struct {
	sharedSettings
	Name  string
	Tried string // the folder with a file for each event that didn't succeed at once

	// StuckFrom is the number of the first handler that gets stuck. Stuck is where
	// that one and the next ones do, one place each. stuckInside must come last,
	// since in SQLite it keeps all others from writing.
	StuckFrom int64
	Stuck     []string
}

// A deed is the effect of a handler.
type deed struct {
	Event, Replica string
	Asked          int64 // when the replica called Claim, in Unix microseconds
	Begun          int64 // when the handler began
}

// A ledger stores deeds, with or without a transaction.
type ledger interface {
	write(context.Context, deed) error
	of(ctx context.Context, event string) ([]deed, error) // earliest first
}

// shared is what the replicas share, as seen by one of them or by the test.
type shared struct {
	store  grantexhook.Store
	ledger ledger
	tx     func(ctx context.Context, id string, f func(*sql.Tx) error) error // nil without Tx
	close  func() error
}

func openShared(s sharedSettings) (*shared, error) {
	if s.Driver == "redis" {
		return openSharedRedis(s)
	}
	dialect, conns := sqlstore.PostgreSQL, 6
	if s.Driver == "sqlite" {
		dialect, conns = sqlstore.SQLite, 1
	}
	db, err := sql.Open(s.Driver, s.URL)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	store, err := sqlstore.New(db, dialect, nil)
	if err != nil {
		return nil, err
	}
	sh := &shared{store: store, ledger: sqlLedger{db}, close: db.Close}
	if s.Tx {
		sh.tx = store.Tx
	}
	return sh, nil
}

func openSharedRedis(s sharedSettings) (*shared, error) {
	opts, err := redis.ParseURL(s.URL)
	if err != nil {
		return nil, errors.New("the URL of Redis is malformed") // the error would quote it
	}
	opts.ContextTimeoutEnabled = true
	client := redis.NewClient(opts)
	store, err := redisstore.New(client, &redisstore.Options{Prefix: s.Prefix + "store:"})
	if err != nil {
		return nil, err
	}
	return &shared{store: store, ledger: redisLedger{client, s.Prefix + "effects:"}, close: client.Close}, nil
}

// An execer is a database or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// insertDeed would allow a duplicate, since the table has no unique index.
func insertDeed(ctx context.Context, db execer, d deed) error {
	_, err := db.ExecContext(ctx, "INSERT INTO effects (event, replica, asked, begun) VALUES ($1, $2, $3, $4)", d.Event, d.Replica, d.Asked, d.Begun)
	return err
}

type sqlLedger struct{ db *sql.DB }

func (l sqlLedger) write(ctx context.Context, d deed) error { return insertDeed(ctx, l.db, d) }

func (l sqlLedger) of(ctx context.Context, event string) (deeds []deed, err error) {
	rows, err := l.db.QueryContext(ctx, "SELECT event, replica, asked, begun FROM effects WHERE event = $1 ORDER BY begun", event)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d deed
		if err := rows.Scan(&d.Event, &d.Replica, &d.Asked, &d.Begun); err != nil {
			return nil, err
		}
		deeds = append(deeds, d)
	}
	return deeds, rows.Err()
}

type redisLedger struct {
	client *redis.Client
	prefix string
}

func (l redisLedger) write(ctx context.Context, d deed) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return l.client.RPush(ctx, l.prefix+d.Event, text).Err()
}

func (l redisLedger) of(ctx context.Context, event string) ([]deed, error) {
	texts, err := l.client.LRange(ctx, l.prefix+event, 0, -1).Result()
	deeds := make([]deed, len(texts))
	for i, text := range texts {
		err = errors.Join(err, json.Unmarshal([]byte(text), &deeds[i]))
	}
	return deeds, err
}

// A replica is one process of a small service that runs as several.
type replica struct {
	replicaSettings
	*shared

	handled   atomic.Int64
	places    chan string
	nowStuck  atomic.Int64
	reporting sync.Mutex
}

// serveReplica prints the address that it listens on. It ends with its standard input,
// so it doesn't outlive the test.
func serveReplica(settings []byte) (err error) {
	var r replica
	if err := json.Unmarshal(settings, &r.replicaSettings); err != nil {
		return err
	}
	if r.shared, err = openShared(r.sharedSettings); err != nil {
		return err
	}
	r.places = make(chan string, len(r.Stuck))
	for _, place := range r.Stuck {
		r.places <- place
	}
	v, err := grantexhook.NewVerifier(replicaSecret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		return err
	}
	d := grantexhook.Dispatcher{
		Store:   noting{r.store},
		Timeout: replicaTimeout,
		Trace:   traceAsked,
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	grantexhook.On(&d, r.handle)
	l, err := listenLoopback()
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // with another code if the race detector found something
	}()
	fmt.Println(l.Addr())
	return http.Serve(l, v.Middleware(&d))
}

type askedKey struct{}

func traceAsked(ctx context.Context, _, _ string, _ time.Time) (context.Context, func(string, error)) {
	return context.WithValue(ctx, askedKey{}, new(int64)), func(string, error) {}
}

// noting is a Store that notes when Claim is called. The lease can't have begun
// before that.
type noting struct{ grantexhook.Store }

func (n noting) Claim(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	*ctx.Value(askedKey{}).(*int64) = time.Now().UnixMicro()
	return n.Store.Claim(ctx, id, lease)
}

func (r *replica) handle(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
	d := deed{e.ID, r.Name, *ctx.Value(askedKey{}).(*int64), time.Now().UnixMicro()}
	if e.Data.GrantID == willSucceed || !r.isFirst(e.ID) {
		return r.succeed(ctx, d)
	}
	return r.do(ctx, d, func() error {
		switch e.Data.GrantID {
		case willPanic:
			panic("as asked")
		case willBeLate:
			<-ctx.Done()
			return ctx.Err()
		default:
			return errors.New("failed as asked")
		}
	})
}

// isFirst reports whether no replica has tried the event before.
func (r *replica) isFirst(event string) bool {
	f, err := os.OpenFile(filepath.Join(r.Tried, event), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// succeed does the work of a handler, or gets stuck if it's its turn.
func (r *replica) succeed(ctx context.Context, d deed) error {
	place := r.turn()
	if place == stuckInside {
		r.waitForTheOthers(ctx)
	}
	work()
	r.stickAt(stuckBefore, place, d)
	err := r.do(ctx, d, func() error {
		work()
		r.stickAt(stuckInside, place, d)
		return nil
	})
	if err == nil {
		r.stickAt(stuckAfter, place, d)
	}
	if place != "" { // this handler didn't get there, so another one must
		r.places <- place
	}
	return err
}

// do creates the effect, and calls last before it's committed. If last fails, there's
// no effect.
func (r *replica) do(ctx context.Context, d deed, last func() error) error {
	if r.tx == nil {
		if err := last(); err != nil {
			return err
		}
		return r.ledger.write(ctx, d)
	}
	return r.tx(ctx, d.Event, func(tx *sql.Tx) error {
		if err := insertDeed(ctx, tx, d); err != nil {
			return err
		}
		return last()
	})
}

// work takes as long as a handler that calls another service.
func work() { time.Sleep(time.Duration(1+rand.IntN(10)) * time.Millisecond) }

// turn returns where a handler must get stuck, or "" for most handlers.
func (r *replica) turn() string {
	if r.handled.Add(1) < r.StuckFrom {
		return ""
	}
	select {
	case place := <-r.places:
		return place
	default:
		return ""
	}
}

func (r *replica) waitForTheOthers(ctx context.Context) {
	for r.nowStuck.Load() < int64(len(r.Stuck)-1) && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// stickAt reports that a handler is at its place, and never returns.
func (r *replica) stickAt(here, place string, d deed) {
	if here != place {
		return
	}
	r.reporting.Lock()
	fmt.Println(d.Event, place)
	r.reporting.Unlock()
	r.nowStuck.Add(1)
	select {}
}
