package sqlstore

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Dialect is a kind of database. [New] rejects the zero value.
type Dialect int

// The databases that a [Store] can use.
const (
	PostgreSQL Dialect = iota + 1 // version 12 or later
	SQLite                        // version 3.42 or later
)

const defaultTable = "grantexhook_events"

// doneToken marks the row of an event that is done. Claims never get it.
const doneToken = 0

// statements are the SQL of a Store. In each statement, $1 appears before $2 and so
// on: SQLite takes them for names and numbers them in the order it meets them.
type statements struct {
	claim, done, release, mark, sweep string
	level                             sql.IsolationLevel // of sweep and Migrate
	limited                           bool               // mark and sweep take an idleLimit as their last parameter
	migrate                           []string
	look, limits, alone, addKey       string // for Migrate; only in PostgreSQL
	fits                              string // fails if claim can't use the table; only in SQLite
}

// claimSQL returns the row even if it doesn't change it, so a single statement
// finds out who holds the claim. If the event is done, it commits as the session asks.
// Then the mark is at least as safe: other sessions also see a mark whose commit was
// canceled while it waited for a standby.
//
// doneSQL leaves a mark that lasts as long or slightly longer, as [Store.Tx] makes it.
// Then there's nothing to commit, so it doesn't wait for the disk. In SQLite a WHERE after
// DO UPDATE is enough. In PostgreSQL it would lock the row, which is a change to commit,
// so doneSQL looks first. Marks that haven't expired are never taken back, so it doesn't
// matter what changes after the look.
const (
	claimSQL = `
INSERT INTO {table} AS held (id, token, expires) VALUES ($1, $2, {after $3})
ON CONFLICT (id) DO UPDATE SET
	token = CASE WHEN held.expires <= {now} THEN excluded.token ELSE held.token END,
	expires = CASE WHEN held.expires <= {now} THEN {after $3} ELSE held.expires END
RETURNING CASE WHEN token = 0 THEN 0 WHEN {async} THEN token END`

	doneSQL = `
INSERT INTO {table} (id, token, expires) SELECT $1, 0, {after $2} WHERE {serializable} OR NOT EXISTS (
	SELECT 1 FROM {table} WHERE id = $1 AND token = 0 AND expires BETWEEN {now} + {$2} AND {now} + {$2} * 1.001
)
ON CONFLICT (id) DO UPDATE SET token = 0, expires = {after $2}`

	sqliteDoneSQL = `
INSERT INTO {table} AS held (id, token, expires) VALUES ($1, 0, {after $2})
ON CONFLICT (id) DO UPDATE SET token = 0, expires = {after $2}
WHERE held.token <> 0 OR held.expires NOT BETWEEN {after $2} AND {now} + $2 * 1.001`

	releaseSQL = `DELETE FROM {table} WHERE id = $1 AND token = $2 AND {async}`

	markSQL = `
INSERT INTO {table} AS held (id, token, expires) SELECT $1, 0, {after $2} WHERE {limited $3}
ON CONFLICT (id) DO UPDATE SET token = 0, expires = {after $2}
WHERE held.token <> 0 OR held.expires <= {now}`

	sweepSQL = `
DELETE FROM {table} WHERE id IN (
	SELECT id FROM {table} WHERE expires <= {now} ORDER BY expires LIMIT 512 {skip locked}
) {returning limited $1}`
)

// In PostgreSQL, {now} doesn't change during a statement, so both CASEs of a claim
// agree. {after} does change: a statement that waited for a row counts its lease from
// the moment it got the row. If the row was then rolled back, the lease counts from
// before the wait, which is harmless for leases that are longer than waits. SQLite
// reads the clock once, after waiting.
//
// {async} is always true. Its side effect is that the commit of this transaction doesn't
// wait for the disk or for a standby. If the server then loses a claim, a release or a
// deletion, the event is handled again or late, which any Store may do.
//
// {serializable} keeps doneSQL from reading the table at that isolation level, where it
// could make the transactions of others fail.
//
// {limited} is always true. Its side effect limits how long the transaction may be
// idle. It's part of the statement that locks rows, so it doesn't cost a round trip.
// In markSQL it comes before the conflict, since even a row that isn't changed stays
// locked. In sweepSQL it comes last, where it can't affect the search for rows.
var (
	postgreSQL = []string{
		"{now}", "statement_timestamp()",
		"{after $2}", "clock_timestamp() + $2 * interval '1 second'",
		"{after $3}", "clock_timestamp() + $3 * interval '1 second'",
		"{skip locked}", "FOR UPDATE SKIP LOCKED",
		"{returning limited $1}", "RETURNING " + limitedSQL("$1") + ", " + asyncSQL,
		"{limited $3}", limitedSQL("$3"),
		"{async}", asyncSQL,
		"{serializable}", "current_setting('transaction_isolation') = 'serializable'",
		"{$2}", "$2 * interval '1 second'",
	}
	sqlite = []string{
		"{now}", "unixepoch('now', 'subsec')",
		"{after $2}", "unixepoch('now', 'subsec') + $2",
		"{after $3}", "unixepoch('now', 'subsec') + $3",
		"{skip locked}", "",
		"{returning limited $1}", "",
		"{limited $3}", "true",
		"{async}", "true",
	}
)

const asyncSQL = "set_config('synchronous_commit', 'off', true) = 'off'"

func limitedSQL(param string) string {
	return "CASE WHEN " + param + "::text <> '' THEN set_config('idle_in_transaction_session_timeout', " + param + "::text, true) <> '' ELSE true END"
}

// lookSQL finds out what exists before anything is created: the table, its columns,
// what ON CONFLICT (id) needs, the index, and an index of that name that is invalid.
// ON CONFLICT fails if one of the keys on id is deferrable, even if another one isn't.
//
// limitsSQL bounds the harm that creating can do. CREATE INDEX locks out every writer,
// even with IF NOT EXISTS. While it waits for a transaction, all others wait behind it.
const (
	lookSQL = `
SELECT
	found.oid IS NOT NULL,
	(SELECT count(*) = 3 FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = found.oid AND a.attname IN ('id', 'token', 'expires') AND NOT a.attisdropped),
	COALESCE((SELECT bool_and(i.indimmediate) FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = found.oid AND a.attname = 'id' AND i.indnkeyatts = 1
			AND i.indisunique AND i.indisvalid AND i.indpred IS NULL), false),
	EXISTS (SELECT FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = found.oid AND a.attname = 'expires' AND i.indisvalid AND i.indpred IS NULL),
	COALESCE((SELECT c.oid::regclass::text FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = found.oid AND c.relname = '{index name}' AND NOT i.indisvalid), '')
FROM (SELECT to_regclass('{table}') AS oid) AS found`

	// aloneSQL fails if someone builds an index CONCURRENTLY or vacuums. Waiting for
	// a build can end in a deadlock that cancels it.
	aloneSQL = `LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT`

	// addKeySQL is for the user to run.
	addKeySQL = `ALTER TABLE {table} ADD UNIQUE (id)`

	limitsSQL = `SELECT set_config('lock_timeout', '1s', true), set_config('idle_in_transaction_session_timeout', '5s', true)`
)

var (
	// postgreSQLSchema begins with a lock, since CREATE … IF NOT EXISTS fails if
	// two processes run it at once. Tables of this name in other schemas have
	// another lock.
	postgreSQLSchema = []string{
		`SELECT pg_advisory_xact_lock(hashtextextended({lock key}, 0))`,
		`CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, token bigint NOT NULL, expires timestamptz NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS {index} ON {table} (expires)`,
	}
	sqliteSchema = []string{
		`CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, token INTEGER NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID`,
		`CREATE INDEX IF NOT EXISTS {index} ON {table} (expires)`,
	}
)

func (d Dialect) statements(table string) (statements, error) {
	words, migrate, done, level := postgreSQL, postgreSQLSchema, doneSQL, sql.LevelReadCommitted
	switch d {
	case PostgreSQL:
	case SQLite:
		words, migrate, done, level = sqlite, sqliteSchema, sqliteDoneSQL, sql.LevelDefault
	default:
		return statements{}, errors.New("sqlstore: unknown dialect; use sqlstore.PostgreSQL or sqlstore.SQLite")
	}
	names, err := d.quote(cmp.Or(table, defaultTable))
	if err != nil {
		return statements{}, err
	}
	fill := strings.NewReplacer(append(names, words...)...).Replace
	s := statements{
		claim:   fill(claimSQL),
		done:    fill(done),
		release: fill(releaseSQL),
		mark:    fill(markSQL),
		sweep:   fill(sweepSQL),

		level: level,
	}
	if d == PostgreSQL {
		s.limited, s.look, s.limits, s.alone, s.addKey = true, fill(lookSQL), limitsSQL, fill(aloneSQL), fill(addKeySQL)
	} else {
		s.fits = "EXPLAIN " + s.claim
	}
	for _, statement := range migrate {
		s.migrate = append(s.migrate, fill(statement))
	}
	return s, nil
}

// tableName leaves room for _expires. PostgreSQL silently truncates names to 63 bytes.
var tableName = regexp.MustCompile(`^(?:([a-z_][a-z0-9_]{0,62})\.)?([a-z_][a-z0-9_]{0,54})$`)

func (d Dialect) quote(table string) (names []string, err error) {
	m := tableName.FindStringSubmatch(table)
	switch {
	case m == nil:
		return nil, fmt.Errorf("sqlstore: %q is not a valid table name; use up to 55 lower-case letters, digits and underscores, and begin with a letter or underscore", table)
	case m[1] != "" && d == SQLite:
		return nil, fmt.Errorf("sqlstore: %q is not a valid table name; SQLite has no schemas, so leave out the part before the dot", table)
	}
	quoted, lockKey := `"`+m[2]+`"`, "concat(current_schema(), '."+m[2]+"')"
	if m[1] != "" {
		quoted, lockKey = `"`+m[1]+`".`+quoted, "'"+m[1]+"."+m[2]+"'"
	}
	return []string{
		"{table}", quoted, "{lock key}", lockKey,
		"{index}", `"` + m[2] + `_expires"`, "{index name}", m[2] + "_expires",
	}, nil
}
