package sqlstore_test

import (
	"context"
	"database/sql"
	"io"
	"log"
	"net/http"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/sqlstore"
)

// These statements run unchanged in PostgreSQL and SQLite. Each event writes one row,
// and the result doesn't depend on their order. So events may arrive in any order, more
// than once and at the same time, without a lock.
const (
	// Run it in a migration. In PostgreSQL, processes that run it at the same time can
	// fail.
	createGrants = `
CREATE TABLE IF NOT EXISTS grants (
	id      text PRIMARY KEY CHECK (id <> ''),
	parent  text, -- the grant that this one was delegated from, if any
	revoked boolean NOT NULL DEFAULT false
)`

	grantCreated = `
INSERT INTO grants (id, parent) VALUES ($1, NULLIF($2, ''))
ON CONFLICT (id) DO NOTHING` // a duplicate, or the revocation arrived first

	grantRevoked = `
INSERT INTO grants (id, revoked) VALUES ($1, true)
ON CONFLICT (id) DO UPDATE SET revoked = true`

	// A grant has ended if it was revoked, or if a grant above it was. To select the
	// sessions that are still good, put sessions.grant_id in place of $1:
	// SELECT … FROM sessions WHERE NOT (…).
	grantEnded = `
WITH RECURSIVE line (id) AS (
	SELECT CAST($1 AS text)
	UNION
	SELECT grants.parent FROM grants JOIN line ON grants.id = line.id
)
SELECT CAST($1 AS text) = '' OR EXISTS (
	SELECT 1 FROM grants JOIN line ON grants.id = line.id WHERE grants.revoked
)`
)

// When a grant ends, so must everything that relies on it. Deleting its sessions when
// the revocation arrives isn't enough, since events arrive in any order and a revocation
// also ends the grants that were delegated from the grant. So record what each event
// says, and check the grant before each use.
//
// A grant without a row counts as active, and so does an expired one. A session must
// end when its token expires.
func Example_grants() {
	var db *sql.DB            // the database
	var store *sqlstore.Store // from New, with db

	// In your migration:
	if _, err := db.ExecContext(context.Background(), createGrants); err != nil {
		log.Fatal(err)
	}

	d := grantexhook.Dispatcher{Store: store}
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
		return store.Tx(ctx, e.ID, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, grantCreated, e.Data.GrantID, e.Data.ParentGrantID)
			return err
		})
	})
	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		// Cascade doesn't matter: grants below a revoked grant have ended.
		return store.Tx(ctx, e.ID, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, grantRevoked, e.Data.GrantID)
			return err
		})
	})

	http.HandleFunc("GET /documents", func(w http.ResponseWriter, r *http.Request) {
		var ended bool
		err := db.QueryRowContext(r.Context(), grantEnded, grantOf(r)).Scan(&ended)
		switch {
		case err != nil:
			http.Error(w, "can't check the grant", http.StatusServiceUnavailable)
		case ended:
			http.Error(w, "the grant has ended", http.StatusUnauthorized)
		default:
			io.WriteString(w, "the documents")
		}
	})
}

// grantOf returns the grant that a request's session was opened with, or the claim grnt
// of its verified token. The token of a delegated grant also has its parent, in the claim
// parentGrnt. If you run grantCreated with both, the grant ends with its parent even if
// the event grant.created is late or lost.
func grantOf(r *http.Request) string { return "" }
