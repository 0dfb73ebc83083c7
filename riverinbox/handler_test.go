package riverinbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/riverinbox"
)

func TestHandlerNeedsAVerifier(t *testing.T) {
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, nil)
	require.PanicsWithValue(t, "riverinbox: verify is nil, so anyone could put events into the inbox; pass the Middleware of a Verifier",
		func() { in.Handler(nil) })
}

func TestHandlerStoresOnlyVerifiedDeliveries(t *testing.T) {
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, nil)
	verify := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Signed") == "" {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	h := in.Handler(verify)
	for _, signed := range []string{"", "yes"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"id":"evt_1","type":"a.b"}`))
		r.Header.Set("Signed", signed)
		h.ServeHTTP(w, r)
		require.Equal(t, signed != "", w.Code == http.StatusOK)
		require.Equal(t, signed != "", len(jobs(t, in)) == 1)
	}
}

func jobs(t testing.TB, in *inbox) []*rivertype.JobRow {
	t.Helper()
	list, err := in.Client().JobList(t.Context(), river.NewJobListParams().First(10_000))
	require.NoError(t, err)
	return list.Jobs
}

func TestHandlerResponses(t *testing.T) {
	var log syncBuffer
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, &riverinbox.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	h := in.Handler(trusted)
	post(h, `{"id":"known","type":"a.b"}`)
	tests := []struct {
		name, body string
		status     int
		answer     string
	}{
		{"an event", `{"id":"evt_1","type":"a.b"}`, 200, "stored"},
		{"an unknown type and field", `{"id":"evt_2","type":"?","later":[1]}`, 200, "stored"},
		{"a createdAt that isn't a time", `{"id":"evt_3","type":"a.b","createdAt":7}`, 200, "stored"},
		{"an empty createdAt", `{"id":"createdAt_1","type":"grant.created","createdAt":""}`, 200, "stored"},
		{"a createdAt that is an object", `{"id":"createdAt_2","type":"grant.created","createdAt":{"a":1}}`, 200, "stored"},
		{"data missing", `{"id":"data_1","type":"grant.created"}`, 200, "stored"},
		{"data null", `{"id":"data_2","type":"grant.created","data":null}`, 200, "stored"},
		{"data an array", `{"id":"data_3","type":"grant.created","data":[]}`, 200, "stored"},
		{"data a number too large for any type", `{"id":"data_4","type":"grant.created","data":1e999}`, 200, "stored"},
		{"data that doesn't fit the handler's type", `{"id":"data_5","type":"grant.created","data":{"grantId":7,"scopes":{}}}`, 200, "stored"},
		{"an id with a NUL", `{"id":"nul\u0000","type":"a.b"}`, 200, "stored"},
		{"a type with a NUL", `{"id":"nul","type":"a.b\u0000"}`, 200, "stored"},
		{"a known event", `{"id":"known","type":"a.b"}`, 200, "duplicate"},
		{"a known event with another body", `{"type":"c.d","id":"known","data":{}}`, 200, "duplicate"},
		{"an id that differs in case", `{"id":"Known","type":"a.b"}`, 200, "stored"},
		{"an id that ends in a space", `{"id":"known ","type":"a.b"}`, 200, "stored"},
		{"an id with quotes", `{"id":"known\"'","type":"a.b"}`, 200, "stored"},
		{"an id with pattern characters", `{"id":"k*n?w%_","type":"a.b"}`, 200, "stored"},
		{"empty", ``, 422, "malformed"},
		{"not JSON", `known`, 422, "malformed"},
		{"an event after a timestamp and a dot, which is what the second signature covers", `1795564800.{"id":"evt_4","type":"a.b"}`, 422, "malformed"},
		{"two values", `{"id":"evt_4","type":"a.b"}{}`, 422, "malformed"},
		{"null", `null`, 422, "malformed"},
		{"an array of events", `[{"id":"evt_4","type":"a.b"}]`, 422, "malformed"},
		{"no id", `{"type":"a.b"}`, 422, "malformed"},
		{"an empty id", `{"id":"","type":"a.b"}`, 422, "malformed"},
		{"an id that is a number", `{"id":4,"type":"a.b"}`, 422, "malformed"},
		{"an id that is null", `{"id":null,"type":"a.b"}`, 422, "malformed"},
		{"a string", `"evt_4"`, 422, "malformed"},
		{"a type that is an object", `{"id":"evt_4","type":{}}`, 422, "malformed"},
		{"no type", `{"id":"evt_4"}`, 422, "malformed"},
		{"an empty type", `{"id":"evt_4","type":""}`, 422, "malformed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(jobs(t, in))
			status, answer := post(h, test.body)
			require.Equal(t, test.status, status)
			require.Equal(t, test.answer, strings.TrimSpace(answer))
			require.Equal(t, test.answer == "stored", len(jobs(t, in)) == before+1)
		})
	}
	require.Equal(t, 14, strings.Count(log.String(), "delivery rejected"))
	require.NotContains(t, log.String(), "evt_4", "part of a body")
}

func TestHandlerCannotRead(t *testing.T) {
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, nil)
	w := httptest.NewRecorder()
	in.Handler(trusted).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", io.MultiReader(
		strings.NewReader(`{"id":"evt_1","type":"a.b"}`), iotest.ErrReader(errors.New("connection lost")))))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Empty(t, jobs(t, in))
}

func TestHandlerCannotStore(t *testing.T) {
	var log syncBuffer
	db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	in := newInbox(t, db, ignore, &riverinbox.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	h := in.Handler(trusted)
	_, err := db.Exec("ALTER TABLE river_job RENAME TO elsewhere")
	require.NoError(t, err)
	status, _ := post(h, `{"id":"evt_1","type":"a.b","data":{"principalId":"user_of_mine"}}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, log.String(), `level=ERROR msg="riverinbox: event not stored" event=evt_1 type=a.b error=`)
	require.NotContains(t, log.String(), "user_of_mine")

	_, err = db.Exec("ALTER TABLE elsewhere RENAME TO river_job")
	require.NoError(t, err)
	status, _ = post(h, `{"id":"evt_1","type":"a.b"}`)
	require.Equal(t, http.StatusOK, status)
}

// The test checks that a delivery doesn't wait for the database longer than its context
// lasts.
func TestHandlerGivesUp(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	h := newInbox(t, db, ignore, nil).Handler(trusted)
	only, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer only.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	begin := time.Now()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(`{"id":"evt_1","type":"a.b"}`)))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Less(t, time.Since(begin), 5*time.Second)
}

// The test checks that an event is stored once, whatever state it's in.
func TestHandlerKnowsEveryState(t *testing.T) {
	for _, state := range rivertype.JobStates() {
		t.Run(string(state), func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
			in := newInbox(t, db, ignore, nil)
			h := in.Handler(trusted)
			post(h, `{"id":"evt_1","type":"a.b"}`)
			_, err := db.Exec("UPDATE river_job SET state = ?, finalized_at = CASE WHEN ? IN ('completed', 'cancelled', 'discarded') THEN datetime('now') END", string(state), string(state))
			require.NoError(t, err)

			status, answer := post(h, `{"id":"evt_1","type":"a.b"}`)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "duplicate", answer)
			all := jobs(t, in)
			require.Len(t, all, 1)
			require.Equal(t, state, all[0].State)
		})
	}
}

// The test checks that of many deliveries of an event at the same time, through two
// handles on the file, one is stored.
func TestHandlerAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	first := newInbox(t, open(t, path), ignore, nil)
	second, err := riverinbox.New(riversqlite.New(open(t, path)), ignore, &riverinbox.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	handlers := []http.Handler{first.Handler(trusted), second.Handler(trusted)}

	const events, deliveries = 10, 4
	var stored, duplicates atomic.Int32
	var wg sync.WaitGroup
	for i := range events * deliveries {
		wg.Go(func() {
			switch status, answer := post(handlers[i%2], fmt.Sprintf(`{"id":"evt_%d","type":"a.b"}`, i%events)); {
			case status == 200 && answer == "stored":
				stored.Add(1)
			case status == 200 && answer == "duplicate":
				duplicates.Add(1)
			default:
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, events, stored.Load())
	require.EqualValues(t, events*(deliveries-1), duplicates.Load())
	require.Len(t, jobs(t, first), events)
}

// The test checks that the response comes after the commit, when the event is visible
// through another connection.
func TestHandlerRespondsAfterTheCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	h := newInbox(t, open(t, path), ignore, nil).Handler(trusted)
	other := open(t, path)
	for i := range 20 {
		status, _ := post(h, fmt.Sprintf(`{"id":"evt_%d","type":"a.b"}`, i))
		require.Equal(t, 200, status)
		var n int
		require.NoError(t, other.QueryRow("SELECT count(*) FROM river_job").Scan(&n))
		require.Equal(t, i+1, n)
	}
}

// conflict is the error of PostgreSQL for an insert that its isolation level rejects.
type conflict struct{}

func (conflict) Error() string    { return "could not serialize access" }
func (conflict) SQLState() string { return "40001" }

// The test checks that an insert that conflicts is retried until the request ends.
func TestHandlerRetriesConflicts(t *testing.T) {
	tests := []struct {
		name      string
		conflicts int
		time      time.Duration // of the request
		status    int
		answer    string
	}{
		{"a few", 5, time.Minute, 200, "stored"},
		{"more than there's time for", math.MaxInt, 300 * time.Millisecond, 503, "store_failed\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tries := 0
			in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, &riverinbox.Options{Configure: func(c *river.Config) {
				c.Plugins = append(c.Plugins, river.HookInsertBeginFunc(func(context.Context, *rivertype.JobInsertParams) error {
					if tries++; tries <= test.conflicts {
						return conflict{}
					}
					return nil
				}))
			}})
			ctx, cancel := context.WithTimeout(t.Context(), test.time)
			defer cancel()
			w := httptest.NewRecorder()
			in.Handler(trusted).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(`{"id":"evt_1","type":"a.b"}`)))
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.answer, w.Body.String())
			require.Greater(t, tries, 5)
		})
	}
}
