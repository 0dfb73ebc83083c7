package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
	"grantex.dev/grantexhook/sqlstore"
)

const (
	outageSecret  = "whsec_of_the_outages"
	outageTimeout = time.Second
	outageLease   = 2 * outageTimeout

	// outageBound is well above the three seconds that a Dispatcher may take with
	// this Timeout, two of them for recording the outcome, and well below the ten
	// after which Grantex hangs up.
	outageBound = 6 * time.Second
)

// outageStores are the stores that are servers, behind proxies.
var outageStores = []struct {
	name string
	open func(*testing.T) (grantexhook.Store, *proxy)
}{
	{"PostgreSQL", func(t *testing.T) (grantexhook.Store, *proxy) {
		db, p := proxiedPostgres(t, postgres(t, nil))
		return newSQLStore(t, db, sqlstore.PostgreSQL), p
	}},
	{"Redis", func(t *testing.T) (grantexhook.Store, *proxy) {
		_, prefix := newRedis(t)
		opts := redisOptions(t)
		p := newProxy(t, opts.Network, opts.Addr)
		opts.Network, opts.Addr = "tcp", p.addr().String()
		client := redis.NewClient(opts)
		t.Cleanup(func() { client.Close() })
		return newRedisStore(t, client, prefix), p
	}},
}

func proxiedPostgres(t *testing.T, url string) (*sql.DB, *proxy) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	p := proxyFor(t, config)
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { db.Close() })
	return db, p
}

// proxyFor puts a proxy between the connections and their server.
func proxyFor(t *testing.T, config *pgx.ConnConfig) *proxy {
	t.Helper()
	p := newProxy(t, "tcp", net.JoinHostPort(config.Host, fmt.Sprint(config.Port)))
	host, port := p.addr().IP.String(), uint16(p.addr().Port)
	config.Host, config.Port = host, port
	for _, f := range config.Fallbacks {
		f.Host, f.Port = host, port
	}
	return p
}

// onEachOutage runs the test with each store and each way to be down. They all run in
// parallel, after onEachOutage has returned.
func onEachOutage(t *testing.T, test func(t *testing.T, o *outage, down string)) {
	t.Helper()
	t.Parallel()
	for _, s := range outageStores {
		for _, down := range []string{proxyRefuses, proxyHangs} {
			t.Run(s.name+" "+down, func(t *testing.T) {
				t.Parallel()
				store, p := s.open(t)
				test(t, newOutage(t, store, p), down)
			})
		}
	}
}

// An outage is a service whose store is behind a proxy.
type outage struct {
	t     *testing.T
	proxy *proxy
	url   *url.URL
	work  func(context.Context, deed) error // of the handler

	mu   sync.Mutex
	log  bytes.Buffer
	runs map[string][]deed // of the handler, by the event
}

func newOutage(t *testing.T, store grantexhook.Store, p *proxy) *outage {
	t.Helper()
	o := &outage{
		t:     t,
		proxy: p,
		work:  func(context.Context, deed) error { return nil },
		runs:  make(map[string][]deed),
	}
	v, err := grantexhook.NewVerifier(outageSecret, &grantexhook.Options{RequireTimestamp: true})
	require.NoError(t, err)
	d := &grantexhook.Dispatcher{
		Store:   noting{store},
		Timeout: outageTimeout,
		Trace:   traceAsked,
		Log:     slog.New(slog.NewTextHandler(o, nil)),
	}
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		made := deed{Event: e.ID, Asked: *ctx.Value(askedKey{}).(*int64), Begun: time.Now().UnixMicro()}
		o.mu.Lock()
		o.runs[e.ID] = append(o.runs[e.ID], made)
		o.mu.Unlock()
		return o.work(ctx, made)
	})
	server := httptest.NewServer(v.Middleware(d))
	t.Cleanup(server.Close)
	o.url, err = sender.ParseURL(server.URL)
	require.NoError(t, err)
	return o
}

// Write records what is logged.
func (o *outage) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.Write(line)
}

func (o *outage) logged() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.String()
}

// ran returns the runs of the handler.
func (o *outage) ran(p parcel) []deed {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs[p.id]
}

func (o *outage) parcels() []parcel {
	parcels := make([]parcel, 5)
	for i := range parcels {
		parcels[i] = newParcel(o.t, willSucceed)
	}
	return parcels
}

// send makes one attempt at each parcel, all at once.
func (o *outage) send(parcels []parcel) []sender.Attempt {
	attempts := make([]sender.Attempt, len(parcels))
	var wg sync.WaitGroup
	for i, p := range parcels {
		wg.Go(func() {
			d := sender.Parcel{URL: o.url, Secret: outageSecret, Body: p.body}
			for attempts[i] = range d.Attempts(o.t.Context()) {
				break
			}
		})
	}
	wg.Wait()
	return attempts
}

// want sends the parcels and checks the responses.
func (o *outage) want(parcels []parcel, statuses ...int) {
	o.t.Helper()
	for _, a := range o.send(parcels) {
		require.NoError(o.t, a.Err)
		require.Contains(o.t, statuses, a.Status, o.logged())
		require.Less(o.t, a.Took, outageBound)
	}
}

// wantInTheEnd sends the parcels until all are acknowledged. Some may be claimed
// without a caller that knows it, if the claim got through but its response didn't.
// And a broken connection may only be noticed when it's used.
func (o *outage) wantInTheEnd(parcels []parcel) {
	o.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var left []parcel
		for i, a := range o.send(parcels) {
			require.NoError(o.t, a.Err)
			require.Contains(o.t, []int{http.StatusOK, http.StatusConflict, http.StatusServiceUnavailable}, a.Status)
			if !a.Delivered() {
				left = append(left, parcels[i])
			}
		}
		if parcels = left; len(left) == 0 {
			return
		}
	}
	require.Fail(o.t, "not acknowledged, although the server is back", "%d events; log:\n%s", len(parcels), o.logged())
}

// The test checks that no event is handled while the store is down, and that all are
// handled afterwards.
func TestOutage(t *testing.T) {
	onEachOutage(t, func(t *testing.T, o *outage, down string) {
		known, fresh := o.parcels(), o.parcels()
		o.want(known, http.StatusOK)

		o.proxy.set(down)
		o.want(fresh, http.StatusServiceUnavailable)
		o.want(fresh, http.StatusServiceUnavailable)
		o.want(known, http.StatusServiceUnavailable)

		o.proxy.set(proxyPasses)
		for _, p := range fresh {
			require.Empty(t, o.ran(p))
		}
		all := slices.Concat(known, fresh)
		o.wantInTheEnd(all)
		o.want(all, http.StatusOK)
		for _, p := range all {
			require.Len(t, o.ran(p), 1)
		}
	})
}

// The test checks that the response still depends on the handler if the server goes
// down while it runs. A handled event is handled again, since it couldn't be marked,
// but only after its lease has expired.
func TestOutageWhileHandling(t *testing.T) {
	onEachOutage(t, func(t *testing.T, o *outage, down string) {
		parcels := o.parcels()[:1]
		o.work = func(_ context.Context, d deed) error {
			if len(o.ran(parcel{id: d.Event})) == 1 {
				o.proxy.set(down)
			}
			return nil
		}
		o.want(parcels, http.StatusOK)
		require.Contains(t, o.logged(), "recording the outcome failed")

		o.proxy.set(proxyPasses)
		o.wantInTheEnd(parcels)
		o.want(parcels, http.StatusOK)
		ran := o.ran(parcels[0])
		if down == proxyHangs && len(ran) == 1 {
			return // the mark got through when the server came back
		}
		require.Len(t, ran, 2)
		after := time.Duration(ran[1].Begun-ran[0].Asked) * time.Microsecond
		require.GreaterOrEqual(t, after, outageLease-clockSlack)
	})
}

// The test checks that if the handler fails while the server is down, its own error is
// logged, and the event is handled again.
func TestOutageWhileFailing(t *testing.T) {
	onEachOutage(t, func(t *testing.T, o *outage, down string) {
		parcels := o.parcels()[:1]
		o.work = func(_ context.Context, d deed) error {
			if len(o.ran(parcel{id: d.Event})) > 1 {
				return nil
			}
			o.proxy.set(down)
			return errors.New("failed as asked")
		}
		o.want(parcels, http.StatusInternalServerError)
		require.Contains(t, o.logged(), "recording the outcome failed")
		require.Contains(t, o.logged(), "failed as asked")

		o.proxy.set(proxyPasses)
		o.wantInTheEnd(parcels)
		o.want(parcels, http.StatusOK)
		require.Len(t, o.ran(parcels[0]), 2)
	})
}

// The test checks that if the server goes down before a transaction is committed, the
// attempt fails, and the next one finds out whether the commit got through.
func TestOutageInTx(t *testing.T) {
	t.Parallel()
	for _, down := range []string{proxyRefuses, proxyHangs} {
		t.Run(down, func(t *testing.T) {
			t.Parallel()
			url := postgres(t, nil)
			direct := openPostgres(t, url)
			execSQL(t, direct, createEffects)
			db, p := proxiedPostgres(t, url)
			store := newSQLStore(t, db, sqlstore.PostgreSQL)
			o := newOutage(t, store, p)
			o.work = func(ctx context.Context, d deed) error {
				return store.Tx(ctx, d.Event, func(tx *sql.Tx) error {
					if err := insertDeed(ctx, tx, d); err != nil {
						return err
					}
					if len(o.ran(parcel{id: d.Event})) == 1 {
						p.set(down)
					}
					return nil
				})
			}
			parcels := o.parcels()[:1]
			o.want(parcels, http.StatusInternalServerError, http.StatusServiceUnavailable)
			effects := func() []deed {
				deeds, err := sqlLedger{direct}.of(t.Context(), parcels[0].id)
				require.NoError(t, err)
				return deeds
			}
			require.Empty(t, effects())

			p.set(proxyPasses)
			o.wantInTheEnd(parcels)
			require.Len(t, effects(), 1)
			o.want(parcels, http.StatusOK)
			require.Len(t, effects(), 1)
		})
	}
}
