package integration

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
)

// The servers are named by variables that applications don't use, so a test never
// touches a database that matters.
var (
	postgresURL = cmp.Or(os.Getenv("GRANTEXHOOK_TEST_POSTGRES"), "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable")
	redisURL    = cmp.Or(os.Getenv("GRANTEXHOOK_TEST_REDIS"), "redis://127.0.0.1:6379/0")
)

// absent skips the test, or fails it in CI, where the servers must be running.
func absent(t testing.TB, what, variable string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("no %s responds, and CI is set: %v", what, err)
	}
	t.Skipf("no %s responds; start one, or set %s to its URL: %v", what, variable, err)
}

// randomName returns a name that suits a schema, a table and the prefix of a key.
func randomName() string { return "grantexhook_" + strings.ToLower(rand.Text()[:12]) }

// postgres returns the URL of a new schema, which is dropped after the test. settings
// are the server's settings for a connection.
func postgres(t testing.TB, settings map[string]string) string {
	t.Helper()
	schema := randomName()
	admin := openPostgres(t, postgresURL)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := admin.PingContext(ctx); err != nil {
		absent(t, "PostgreSQL", "GRANTEXHOOK_TEST_POSTGRES", err)
	}
	execSQL(t, admin, "CREATE SCHEMA "+schema)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
		require.NoError(t, err)
	})
	u, err := url.Parse(postgresURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", schema)
	for name, value := range settings {
		q.Set(name, value)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // pgx doesn't decode the plus
	return u.String()
}

func openPostgres(t testing.TB, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// sqliteDSN returns the DSN that the documentation gives.
func sqliteDSN(path string) string {
	return "file:" + filepath.ToSlash(path) + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

func openSQLite(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func execSQL(t testing.TB, db *sql.DB, statement string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

// sendWire writes a request to a server and returns the status of the response.
func sendWire(t testing.TB, addr string, wire []byte) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Write(wire)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
