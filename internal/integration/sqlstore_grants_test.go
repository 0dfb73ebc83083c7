package integration

import (
	"context"
	"database/sql"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
)

// constants returns the constant strings of a Go file, so what users copy from an
// example is what runs here.
func constants(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(path), nil, 0)
	require.NoError(t, err)
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				found[spec.Names[0].Name], err = strconv.Unquote(value.Value)
				require.NoError(t, err)
			}
		}
		return true
	})
	return found
}

// grantStates is a service that runs the statements of sqlstore's example.
type grantStates struct {
	sqlBackend
	sql map[string]string
}

// onEachGrants runs a test on SQLite, and on PostgreSQL at these isolation levels.
// Commits don't wait for the disk, which saves time.
func onEachGrants(t *testing.T, isolations []string, test func(*testing.T, grantStates)) {
	statements := constants(t, "../../sqlstore/example_grants_test.go")
	for _, name := range []string{"createGrants", "grantCreated", "grantRevoked", "grantEnded"} {
		require.NotEmpty(t, statements[name], name)
	}
	run := func(t *testing.T, b sqlBackend) {
		execSQL(t, b.db, statements["createGrants"])
		execSQL(t, b.db, "CREATE TABLE sessions (token text PRIMARY KEY, grant_id text NOT NULL)")
		test(t, grantStates{b, statements})
	}
	for _, isolation := range isolations {
		t.Run("PostgreSQL, "+isolation, func(t *testing.T) {
			t.Parallel()
			url := postgres(t, map[string]string{"default_transaction_isolation": isolation, "synchronous_commit": "off"})
			run(t, newSQLBackend(t, sqlstore.PostgreSQL, func() *sql.DB {
				db := openPostgres(t, url)
				db.SetMaxOpenConns(8)
				db.SetMaxIdleConns(8)
				return db
			}))
		})
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		dsn := strings.ReplaceAll(sqliteDSN(filepath.Join(t.TempDir(), "grants.db")), "synchronous(FULL)", "synchronous(OFF)")
		run(t, newSQLBackend(t, sqlstore.SQLite, func() *sql.DB { return openSQLite(t, dsn) }))
	})
}

// again returns the same service in another process.
func (g grantStates) again(t *testing.T) grantStates {
	t.Helper()
	s, err := sqlstore.New(g.sqlBackend.again(), g.dialect, nil)
	require.NoError(t, err)
	g.Store = s
	return g
}

// handle handles an event as the example does, and opens a session for a token.
func (g grantStates) handle(ctx context.Context, id string, data any) error {
	return g.Tx(ctx, id, func(tx *sql.Tx) (err error) {
		switch data := data.(type) {
		case grantexhook.GrantCreated:
			_, err = tx.ExecContext(ctx, g.sql["grantCreated"], data.GrantID, data.ParentGrantID)
		case grantexhook.GrantRevoked:
			_, err = tx.ExecContext(ctx, g.sql["grantRevoked"], data.GrantID)
		case grantexhook.TokenIssued:
			_, err = tx.ExecContext(ctx, "INSERT INTO sessions (token, grant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", data.TokenID, data.GrantID)
		}
		return err
	})
}

func (g grantStates) ended(t testing.TB, grant string) (ended bool) {
	t.Helper()
	require.NoError(t, g.db.QueryRowContext(t.Context(), g.sql["grantEnded"], grant).Scan(&ended))
	return ended
}

// live returns the grants that have a session and haven't ended, as the comment on
// grantEnded selects them.
func (g grantStates) live(t testing.TB, prefix string) (live []string) {
	t.Helper()
	ended := strings.ReplaceAll(g.sql["grantEnded"], "$1", "sessions.grant_id")
	rows, err := g.db.QueryContext(t.Context(), "SELECT grant_id FROM sessions WHERE grant_id LIKE $1 AND NOT ("+ended+") ORDER BY grant_id", prefix+"%")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var grant string
		require.NoError(t, rows.Scan(&grant))
		live = append(live, grant)
	}
	require.NoError(t, rows.Err())
	return live
}

// family returns the events of a grant, its child and its grandchild, one of which is
// revoked, and of another grant. The names begin with prefix.
func family(prefix, revoked string) []any {
	return []any{
		grantexhook.GrantCreated{GrantID: prefix + "root"},
		grantexhook.GrantCreated{GrantID: prefix + "child", ParentGrantID: prefix + "root"},
		grantexhook.GrantCreated{GrantID: prefix + "grandchild", ParentGrantID: prefix + "child"},
		grantexhook.GrantRevoked{GrantID: prefix + revoked, Cascade: revoked != "grandchild"},
		grantexhook.TokenIssued{TokenID: prefix + "token", GrantID: prefix + "grandchild"},
	}
}

// endedBy returns which grants of a family these events end.
func endedBy(events []any) map[string]bool {
	parents, ended := map[string]string{}, map[string]bool{}
	for _, e := range events {
		switch e := e.(type) {
		case grantexhook.GrantCreated:
			parents[e.GrantID] = e.ParentGrantID
		case grantexhook.GrantRevoked:
			ended[e.GrantID] = true
		}
	}
	for range parents {
		for grant, parent := range parents {
			ended[grant] = ended[grant] || ended[parent]
		}
	}
	return ended
}

// The test checks the example of sqlstore in every order of the events: after each
// event, the grants that the events so far have ended have ended, and no others.
func TestGrantsInEveryOrder(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	onEachGrants(t, []string{"read committed"}, func(t *testing.T, g grantStates) {
		revocations := []string{"root", "child", "grandchild"}
		for i, order := range permutations(5) {
			if g.dialect == sqlstore.SQLite { // slow under the race detector: each order once
				g.inOrder(t, fmt.Sprintf("%d_", i), revocations[i%3], order)
				continue
			}
			for _, revoked := range revocations {
				g.inOrder(t, fmt.Sprintf("%s_%d_", revoked, i), revoked, order)
			}
		}
	})
}

func (g grantStates) inOrder(t *testing.T, prefix, revoked string, order []int) {
	t.Helper()
	all := family(prefix, revoked)
	var so []any // have been handled
	for _, n := range order {
		so = append(so, all[n])
		require.NoError(t, g.handle(t.Context(), fmt.Sprint(prefix, n), all[n]))
		g.requireEnded(t, prefix, so)
	}
	for _, n := range order {
		require.NoError(t, g.handle(t.Context(), fmt.Sprint(prefix, n, " after its mark has expired"), all[n]))
	}
	g.requireEnded(t, prefix, so)
	require.Empty(t, g.live(t, prefix), "%+v", so)
}

func (g grantStates) requireEnded(t *testing.T, prefix string, events []any) {
	t.Helper()
	want := endedBy(events)
	for _, name := range []string{"root", "child", "grandchild"} {
		require.Equal(t, want[prefix+name], g.ended(t, prefix+name), "%s after %+v", name, events)
	}
}

// permutations returns all orders of the numbers below n.
func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, rest := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(rest), i, n-1))
		}
	}
	return all
}

// The test checks the example of sqlstore while two processes handle the events at
// the same time: no session of a grant that has ended is live, and others are.
func TestGrantsAtOnce(t *testing.T) {
	t.Parallel()
	onEachGrants(t, []string{"read committed", "serializable"}, func(t *testing.T, g grantStates) {
		processes := []grantStates{g, g.again(t)}
		for round := range 50 {
			prefix := fmt.Sprintf("%d_", round)
			events := append(family(prefix, "root"), family(prefix+"other_", "grandchild")...)
			events = append(events, grantexhook.TokenIssued{TokenID: prefix + "other_child_token", GrantID: prefix + "other_child"})
			var wg sync.WaitGroup
			for i, e := range append(events, events...) {
				wg.Go(func() {
					id := fmt.Sprint(prefix, i) // a duplicate whose mark has expired
					if err := untilHandled(t.Context(), func() error { return processes[i%2].handle(t.Context(), id, e) }); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.Equal(t, []string{prefix + "other_child"}, g.live(t, prefix))
		}
	})
}

// untilHandled tries again as Grantex does, which is needed at isolation levels where
// transactions conflict.
func untilHandled(ctx context.Context, handle func() error) (err error) {
	for range 100 {
		if err = handle(); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// The test checks that an event without an id for its grant ends nothing, that a
// token without a grant isn't accepted, and that parents that name each other don't
// keep the database busy.
func TestGrantsThatGrantexDoesNotSend(t *testing.T) {
	t.Parallel()
	onEachGrants(t, []string{"read committed"}, func(t *testing.T, g grantStates) {
		require.NoError(t, g.handle(t.Context(), "evt_1", grantexhook.GrantCreated{GrantID: "root"}))
		require.Error(t, g.handle(t.Context(), "evt_2", grantexhook.GrantRevoked{}))
		require.False(t, g.ended(t, "root"))
		require.True(t, g.ended(t, ""))
		require.NoError(t, g.handle(t.Context(), "evt_3", grantexhook.GrantCreated{GrantID: "one", ParentGrantID: "two"}))
		require.NoError(t, g.handle(t.Context(), "evt_4", grantexhook.GrantCreated{GrantID: "two", ParentGrantID: "one"}))
		require.False(t, g.ended(t, "one"))
	})
}
