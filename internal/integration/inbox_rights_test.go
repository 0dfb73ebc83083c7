package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/riverinbox"
)

// tableGrants are the grants that a role needs if it doesn't own River's tables, as in
// riverinbox's documentation.
var tableGrants = []string{
	"GRANT USAGE ON SCHEMA %[1]s TO %[2]s",
	"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[1]s TO %[2]s",
	"GRANT USAGE ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s",
}

// limitedRole returns the URL for a new role that has just these grants. The grants
// are formats for the schema, the role and the owner.
func limitedRole(t *testing.T, owner string, grants ...string) string {
	t.Helper()
	u, err := url.Parse(owner)
	require.NoError(t, err)
	db, role := openPostgres(t, owner), randomName()
	execSQL(t, db, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		for _, statement := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			_, err := db.ExecContext(context.Background(), statement+role)
			require.NoError(t, err)
		}
	})
	for _, grant := range grants {
		execSQL(t, db, fmt.Sprintf(grant, u.Query().Get("search_path"), role, u.User.Username()))
	}
	u.User = url.User(role)
	return u.String()
}

// The test checks that a role that doesn't own the tables can run an inbox if they
// exist.
func TestInboxRights(t *testing.T) {
	t.Parallel()
	owner := postgres(t, nil)
	newInbox(t, place{"pgx", owner}, drop, riverinbox.Options{})
	var log inboxLog
	in := newInbox(t, place{"pgx", limitedRole(t, owner, tableGrants...)}, drop, riverinbox.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	in.start(t)
	srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
	defer srv.Close()
	status, _, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody("evt_1", "grnt_1"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == 1 }, 20*time.Second, 50*time.Millisecond)
	require.NotContains(t, log.String(), "denied")
}

// The test checks that a role that can create tables in the schema can migrate and
// run. Another role gets an error, which leaves neither a table nor a connection in a
// failed transaction.
func TestInboxMigrationFails(t *testing.T) {
	t.Parallel()
	owner := postgres(t, nil)
	admin := openPostgres(t, owner)
	role := limitedRole(t, owner, tableGrants[0])
	in := newUnmigrated(t, place{"pgx", role + "&pool_max_conns=1"})
	require.ErrorContains(t, in.Migrate(t.Context()), "permission denied for schema")
	var tables int
	require.NoError(t, admin.QueryRow("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()").Scan(&tables))
	require.Zero(t, tables)

	u, err := url.Parse(role)
	require.NoError(t, err)
	execSQL(t, admin, fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s", u.Query().Get("search_path"), u.User.Username()))
	require.NoError(t, in.Migrate(t.Context()))
	require.NoError(t, in.Migrate(t.Context()))
	require.Zero(t, in.count(t, rivertype.JobStateAvailable))
}

// newUnmigrated returns an inbox whose tables don't exist yet.
func newUnmigrated(t *testing.T, p place) *testInbox {
	t.Helper()
	in, err := openInbox(t.Context(), p, drop, riverinbox.Options{})
	require.NoError(t, err)
	t.Cleanup(in.close)
	return in
}

// The test checks what River logs when it rebuilds its indexes, which only their owner
// can do.
func TestInboxReindexing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		grants []string // of another role than the owner
		names  []string
		want   string // in the log
	}{
		{"the owner", nil, nil, "Initiated reindex"},
		{"a member of the owner", append(slices.Clone(tableGrants), "GRANT %[3]s TO %[2]s"), nil, "Initiated reindex"},
		{"another role", tableGrants, nil, "must be owner of index"},
		{"turned off", tableGrants, []string{}, "num_reindexes_initiated=0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			where := place{"pgx", postgres(t, nil)}
			newInbox(t, where, drop, riverinbox.Options{})
			if test.grants != nil {
				where.URL = limitedRole(t, where.URL, test.grants...)
			}
			var log inboxLog
			in := newInbox(t, where, drop, riverinbox.Options{
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
				Configure: func(c *river.Config) {
					c.ReindexerSchedule = river.PeriodicInterval(time.Second)
					c.ReindexerIndexNames = test.names
				},
			})
			in.start(t)
			require.Eventually(t, func() bool { return strings.Contains(log.String(), test.want) }, time.Minute, 50*time.Millisecond)
			require.Equal(t, test.name == "another role", strings.Contains(log.String(), `level=ERROR msg="maintenance.Reindexer: Error reindexing"`), log.String())
		})
	}
}
