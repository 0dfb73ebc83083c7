package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"riverqueue.com/riverui"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/riverinbox"
)

// The test checks that recorded deliveries are stored and handled with the bytes that
// the service signed.
func TestInboxStoresRecordings(t *testing.T) {
	all := capture.All()
	opts := &grantexhook.Options{RequireTimestamp: true, Tolerance: 200 * 365 * 24 * time.Hour, Log: slog.New(slog.DiscardHandler)}
	bodies := make(map[string][]byte)
	for _, d := range all {
		opts.PreviousSecrets = append(opts.PreviousSecrets, d.Secret)
		bodies[d.EventID] = d.Body
	}
	v, err := grantexhook.NewVerifier(inboxSecret, opts)
	require.NoError(t, err)
	onEachInbox(t, func(t *testing.T, p place) {
		var handled sync.Map
		var n atomic.Int64
		d := &grantexhook.Dispatcher{Other: func(context.Context, grantexhook.RawEvent) error { return nil }}
		grantexhook.On(d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error { n.Add(1); return nil })
		in := newInbox(t, p, func(ctx context.Context, body []byte) error {
			handled.Store(string(body), true)
			return d.Dispatch(ctx, body)
		}, riverinbox.Options{})
		in.start(t)
		srv := httptest.NewServer(in.Handler(v.Middleware))
		defer srv.Close()
		for _, d := range all {
			require.Equal(t, http.StatusOK, sendWire(t, srv.Listener.Addr().String(), d.Wire()), d.Name)
		}
		require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == len(bodies) }, 30*time.Second, 50*time.Millisecond)
		for id, body := range bodies {
			_, ok := handled.Load(string(body))
			require.True(t, ok, id)
		}
		require.NotZero(t, n.Load())
	})
}

func newInboxVerifier(t testing.TB) *grantexhook.Verifier {
	t.Helper()
	v, err := grantexhook.NewVerifier(inboxSecret, &grantexhook.Options{RequireTimestamp: true, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return v
}

// post sends a body, signed with a secret, as Grantex does.
func post(ctx context.Context, client *http.Client, url, secret string, body []byte) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(bytes.NewReader(body))) // chunked
	if err != nil {
		return 0, "", err
	}
	grantexhook.Sign(r.Header, secret, body, time.Now())
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, string(bytes.TrimSpace(text)), err
}

func TestInboxRejects(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		in := newInbox(t, p, drop, riverinbox.Options{})
		srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
		defer srv.Close()
		tests := []struct {
			name   string
			sender hooktest.Sender
			status int
		}{
			{"another secret", hooktest.Sender{Secret: "another"}, http.StatusUnauthorized},
			{"an old delivery", hooktest.Sender{Secret: inboxSecret, Skew: -time.Hour}, http.StatusUnauthorized},
			{"no timestamp", hooktest.Sender{Secret: inboxSecret, Legacy: true}, http.StatusUnauthorized},
			{"a current delivery", hooktest.Sender{Secret: inboxSecret}, http.StatusOK},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				test.sender.URL, test.sender.Attempts = srv.URL, 1
				report := test.sender.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
				require.Equal(t, test.status, report[0].Status)
				require.Equal(t, test.status == http.StatusOK, in.count(t, rivertype.JobStateAvailable) == 1)
			})
		}
	})
}

// The test checks that bodies that are hard on databases come back as they were sent.
func TestInboxKeepsBytes(t *testing.T) {
	tests := []struct{ name, data string }{
		{"NUL", `"\u0000"`},
		{"half a surrogate pair", `"\ud800"`},
		{"a number that's too large", `1e99999`},
		{"a repeated key", `{"a":1,"a":2}`},
		{"invalid UTF-8", "\"\xff\xfe\""},
		{"white space and order", `{ "b" : 1 ,  "a":2.00 }`},
		{"the largest body that Grantex sends", `"` + strings.Repeat("x", 154_000) + `"`},
	}
	onEachInbox(t, func(t *testing.T, p place) {
		got := make(chan []byte, 1)
		in := newInbox(t, p, func(_ context.Context, body []byte) error { got <- body; return nil }, riverinbox.Options{})
		in.start(t)
		srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
		defer srv.Close()
		for i, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				body := []byte(`{"id":"evt_` + string(rune('a'+i)) + `","type":"a.b","data":` + test.data + `}`)
				status, _, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, body)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status)
				select {
				case b := <-got:
					require.True(t, bytes.Equal(body, b), "the bytes differ from what was sent")
				case <-time.After(20 * time.Second):
					require.Fail(t, "the event wasn't handled")
				}
			})
		}
	})
}

// The test checks that an event isn't lost if PostgreSQL can't store its id or type
// as it is.
func TestInboxKeepsNULs(t *testing.T) {
	bodies := []string{`{"id":"evt_1\u0000","type":"a.b"}`, `{"id":"evt_2","type":"a.b\u0000"}`}
	onEachInbox(t, func(t *testing.T, p place) {
		got := make(chan string, len(bodies))
		in := newInbox(t, p, func(_ context.Context, body []byte) error { got <- string(body); return nil }, riverinbox.Options{})
		in.start(t)
		srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
		defer srv.Close()
		for _, body := range bodies {
			for _, want := range []string{"stored", "duplicate"} {
				status, answer, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, []byte(body))
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, want, answer)
			}
			select {
			case b := <-got:
				require.Equal(t, body, b)
			case <-time.After(20 * time.Second):
				require.Fail(t, "the event wasn't handled")
			}
		}
	})
}

// The test checks that responses don't wait for handlers.
func TestInboxRespondsBeforeTheWork(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		const events = 50
		end := make(chan bool)
		var handled atomic.Int64
		in := newInbox(t, p, func(context.Context, []byte) error { <-end; handled.Add(1); return nil }, riverinbox.Options{})
		in.start(t)
		srv := httptest.NewServer(in.Handler(newInboxVerifier(t).Middleware))
		defer srv.Close()
		for range 2 {
			for i := range events {
				status, _, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody("evt_"+string(rune('A'+i)), "grnt_1"))
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status)
			}
		}
		require.Zero(t, handled.Load())
		close(end)
		require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == events }, 30*time.Second, 50*time.Millisecond)
		require.EqualValues(t, events, handled.Load())
	})
}

// The test checks that the web interface can be mounted as the documentation shows.
func TestInboxWebInterface(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		in := newInbox(t, p, drop, riverinbox.Options{})
		w := httptest.NewRecorder()
		in.Handler(newInboxVerifier(t).Middleware).ServeHTTP(w, hooktest.NewRequest(t, inboxSecret, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
		require.Equal(t, http.StatusOK, w.Code)

		ui, err := in.ui(&riverui.HandlerOpts{Logger: slog.New(slog.DiscardHandler), Prefix: "/river", JobListHideArgsByDefault: true})
		require.NoError(t, err)
		require.NoError(t, ui.Start(t.Context()))
		mux := http.NewServeMux()
		mux.Handle("/river/", ui)
		srv := httptest.NewServer(mux)
		defer srv.Close()
		for path, want := range map[string]string{"/river/": "<html", "/river/api/jobs?state=available": `"grantex_event"`} {
			resp, err := http.Get(srv.URL + path)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode, string(text))
			require.Contains(t, string(text), want)
		}
	})
}

// The test checks that the text of one handler's error doesn't prevent the outcomes of
// others from being written. PostgreSQL rejects a NUL in JSON.
func TestInboxWritesOutcomes(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		var good atomic.Int64
		in := newInbox(t, p, func(_ context.Context, body []byte) error {
			if bytes.Contains(body, []byte("evt_bad")) {
				return errors.New("no account eve\x00")
			}
			good.Add(1)
			return nil
		}, riverinbox.Options{Timeout: time.Second})
		h := in.Handler(newInboxVerifier(t).Middleware)
		srv := httptest.NewServer(h)
		defer srv.Close()
		for _, id := range []string{"evt_bad", "evt_1", "evt_2", "evt_3"} {
			status, _, err := post(t.Context(), srv.Client(), srv.URL, inboxSecret, eventBody(id, "grnt_1"))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
		}
		in.start(t)
		require.Eventually(t, func() bool { return in.count(t, rivertype.JobStateCompleted) == 3 }, 20*time.Second, 50*time.Millisecond)
		require.EqualValues(t, 3, good.Load())
	})
}

// The test checks that all of River's tables are in the schema that the option names.
func TestInboxInAnotherSchema(t *testing.T) {
	t.Parallel()
	url := postgres(t, nil)
	db := openPostgres(t, url)
	schema := randomName()
	execSQL(t, db, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { db.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE") })
	handled := make(chan bool, 1)
	in := newInbox(t, place{"pgx", url}, func(context.Context, []byte) error { handled <- true; return nil }, riverinbox.Options{Schema: schema})
	in.start(t)
	w := httptest.NewRecorder()
	in.Handler(newInboxVerifier(t).Middleware).ServeHTTP(w, hooktest.NewRequest(t, inboxSecret, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
	require.Equal(t, http.StatusOK, w.Code)
	select {
	case <-handled:
	case <-time.After(20 * time.Second):
		require.Fail(t, "the event wasn't handled")
	}
	var tables int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'river%'").Scan(&tables))
	require.Zero(t, tables)

	_, err := openInbox(t.Context(), place{"pgx", url}, drop, riverinbox.Options{Schema: "a b"})
	require.ErrorContains(t, err, "Schema")
}
