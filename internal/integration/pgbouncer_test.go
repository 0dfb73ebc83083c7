package integration

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/riverinbox"
	"grantex.dev/grantexhook/sqlstore"
)

const (
	bouncerClients = 8
	bouncerEvents  = 160
)

// pgBouncer starts a PgBouncer in transaction mode and returns a URL of the
// PostgreSQL behind it. It opens fewer connections to the server than the test has
// clients, so each client gets connections that others have used.
func pgBouncer(t *testing.T) *url.URL {
	t.Helper()
	program := binary(t, "pgbouncer")
	server, err := pgx.ParseConfig(postgresURL)
	require.NoError(t, err)
	addr := freeAddr(t)
	config := filepath.Join(t.TempDir(), "pgbouncer.ini")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
[databases]
test = host=%s port=%d dbname=%s user=%s password='%s'
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
`, server.Host, server.Port, cmp.Or(server.Database, server.User), server.User, cmp.Or(server.Password, "unused"), addr.IP, addr.Port), 0o600))
	args := []string{config}
	if os.Getuid() == 0 { // PgBouncer refuses to run as root
		args = []string{"-u", "nobody", config}
	}
	startServer(t, exec.Command(program, args...), addr)
	return &url.URL{Scheme: "postgres", User: url.User("test"), Host: addr.String(), Path: "/test", RawQuery: "sslmode=disable"}
}

// bouncerSchema returns a schema that is dropped after the test. A search_path can't
// be set for a connection through PgBouncer.
func bouncerSchema(t *testing.T) string {
	t.Helper()
	var schema string
	require.NoError(t, openPostgres(t, postgres(t, nil)).QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema))
	return schema
}

// atOnce calls f for each event, several at a time.
func atOnce(f func(i int)) {
	var wg sync.WaitGroup
	for c := range bouncerClients {
		wg.Go(func() {
			for i := c; i < bouncerEvents; i += bouncerClients {
				f(i)
			}
		})
	}
	wg.Wait()
}

// The test checks the settings in sqlstore's documentation, with each driver named
// there.
func TestSQLStoreThroughPgBouncer(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, driver, settings string }{
		{"pgx, cache_describe", "pgx", "default_query_exec_mode=cache_describe"},
		{"pgx, exec", "pgx", "default_query_exec_mode=exec"},
		{"pq", "postgres", "binary_parameters=yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			schema := bouncerSchema(t)
			u := pgBouncer(t)
			u.RawQuery += "&target_session_attrs=read-write&" + test.settings
			db, err := sql.Open(test.driver, u.String())
			require.NoError(t, err)
			defer db.Close()
			s, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Table: schema + ".events"})
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			effects := schema + ".effects"
			execSQL(t, db, "CREATE TABLE "+effects+" (event text)")

			d := grantexhook.Dispatcher{Store: s}
			grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
				return s.Tx(ctx, e.ID, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, "INSERT INTO "+effects+" VALUES ($1)", e.ID)
					return err
				})
			})
			atOnce(func(i int) {
				if err := d.Dispatch(t.Context(), eventBody(fmt.Sprint("evt_", i), "grnt_1")); err != nil {
					t.Error(err)
				}
			})
			own := synchronousCommit(t, openPostgres(t, postgresURL))
			atOnce(func(int) {
				var setting string
				if err := db.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&setting); err != nil || setting != own {
					t.Error(setting, err)
				}
			})
			b := sqlBackend{db: db}
			require.Equal(t, bouncerEvents, b.count(t, effects))
			require.Equal(t, bouncerEvents, b.count(t, schema+".events WHERE token = 0"))
		})
	}
}

// The test checks the settings in riverinbox's documentation.
func TestInboxThroughPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_describe", "exec"} {
		t.Run(mode, func(t *testing.T) {
			schema := bouncerSchema(t)
			u := pgBouncer(t)
			u.RawQuery += "&target_session_attrs=read-write&pool_max_conns=20&pool_max_conn_lifetime=3m&default_query_exec_mode=" + mode
			in := newInbox(t, place{"pgx", u.String()}, drop, riverinbox.Options{
				Schema:    schema,
				Configure: func(c *river.Config) { c.PollOnly = true },
			})
			in.start(t)
			srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
			defer srv.Close()
			atOnce(func(i int) {
				status, answer, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody(fmt.Sprint("evt_", i), "grnt_1"))
				if err != nil || status != http.StatusOK {
					t.Error(status, answer, err)
				}
			})
			require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == bouncerEvents }, 30*time.Second, 50*time.Millisecond)
		})
	}
}
