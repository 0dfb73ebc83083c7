package grantexhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

// A traced holds the arguments of Trace and the outcome for one event.
type traced struct {
	id, eventType string
	createdAt     time.Time
	outcome       string
	err           error
	ends          int
}

// traces collects the calls of Dispatcher.Trace.
type traces struct {
	mu  sync.Mutex
	all []*traced
}

func (s *traces) trace(ctx context.Context, id, eventType string, createdAt time.Time) (context.Context, func(string, error)) {
	e := &traced{id: id, eventType: eventType, createdAt: createdAt}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
	return ctx, func(outcome string, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.outcome, e.err = outcome, err
		e.ends++
	}
}

// only returns the only event, and checks that it ended once.
func (s *traces) only(t testing.TB) traced {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.all, 1)
	require.Equal(t, 1, s.all[0].ends)
	return *s.all[0]
}

// A logBook is a log at level Debug that can be read back. It leaves out the time,
// whose digits could match the ones that a test searches for.
type logBook struct{ bytes.Buffer }

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// lines returns the level and the message of each record.
func (b *logBook) lines(t testing.TB) (lines []string) {
	t.Helper()
	for dec := json.NewDecoder(bytes.NewReader(b.Bytes())); dec.More(); {
		var r struct{ Level, Msg string }
		require.NoError(t, dec.Decode(&r))
		lines = append(lines, r.Level+" "+r.Msg)
	}
	return lines
}

// post delivers body to h over a real connection, as Grantex does, and returns
// the status and the text of the response, or 0 if there isn't one.
func post(t testing.TB, h http.Handler, body []byte) (status int, text string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	header := http.Header{}
	grantexhook.Sign(header, secret, body, time.Now())
	resp, err := srv.Client().Do(newPost(t, srv.URL, header, chunked(body)))
	if err != nil {
		require.ErrorIs(t, err, io.EOF)
		return 0, ""
	}
	return resp.StatusCode, bodyOf(t, resp)
}

const unsettled = "ERROR grantexhook: recording the outcome failed; the event may be handled again or late"

// documented returns the statuses that the comments of a file's constants name.
func documented(t *testing.T, file string) map[string]int {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	statuses := map[string]int{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Comment != nil && len(v.Values) == 1 {
			var status int
			if _, err := fmt.Sscan(v.Comment.Text(), &status); err == nil {
				statuses[strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`)] = status
			}
		}
		return true
	})
	return statuses
}

// TestOutcomes checks the response, the trace and the log of each outcome, and the
// state in which it leaves the event.
func TestOutcomes(t *testing.T) {
	own, away := errors.New("own"), errors.New("away")
	returns := func(err error) func(context.Context) error {
		return func(context.Context) error { return err }
	}
	late := func(err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	panics := func(v any) func(context.Context) error {
		return func(context.Context) error { panic(v) }
	}
	unknown := newEvent("budget.exceeded", `{"limit":"`+marker+`"}`)
	malformed := newEvent("grant.created", `["`+marker+`"]`)
	quick := func(d *grantexhook.Dispatcher, _ *spyStore) { d.Timeout = time.Millisecond }
	other := func(err error) func(*grantexhook.Dispatcher, *spyStore) {
		return func(d *grantexhook.Dispatcher, _ *spyStore) {
			d.Other = func(context.Context, grantexhook.RawEvent) error { return err }
		}
	}
	fails := func(claim, done, release error) func(*grantexhook.Dispatcher, *spyStore) {
		return func(_ *grantexhook.Dispatcher, s *spyStore) {
			s.claimErr, s.doneErr, s.releaseErr = claim, done, release
		}
	}
	isDone := func(_ *grantexhook.Dispatcher, s *spyStore) { s.MemoryStore.Done(t.Context(), "evt_1", time.Hour) }
	isHeld := func(_ *grantexhook.Dispatcher, s *spyStore) { s.MemoryStore.Claim(t.Context(), "evt_1", time.Hour) }

	tests := []struct {
		name    string
		body    []byte                      // createdEvent if nil
		handle  func(context.Context) error // must not be called if nil
		prepare func(*grantexhook.Dispatcher, *spyStore)
		status  int // 0: no response
		outcome string
		err     string // part of the error that Trace gets; empty if it is nil
		after   string // state of the event
		level   string // of the log line about the outcome; empty if there isn't one
		log     []string
	}{
		{name: "handled", handle: returns(nil), status: 200, outcome: "handled", after: "done", level: "DEBUG"},
		{name: "handled late", handle: late(nil), prepare: quick, status: 200, outcome: "handled", after: "done", level: "DEBUG"},
		{
			name: "handled, but Done fails", handle: returns(nil), prepare: fails(nil, away, nil),
			status: 200, outcome: "handled", after: "held", level: "DEBUG", log: []string{unsettled},
		},
		{name: "handled by Other", body: unknown, prepare: other(nil), status: 200, outcome: "handled", after: "done", level: "DEBUG"},
		{name: "duplicate", prepare: isDone, status: 200, outcome: "duplicate", after: "done", level: "DEBUG"},
		{name: "ignored", body: unknown, status: 200, outcome: "ignored", after: "free", level: "DEBUG"},
		{name: "in flight", prepare: isHeld, status: 409, outcome: "in_flight", err: "is being handled", after: "held", level: "INFO"},
		{name: "malformed", body: malformed, status: 422, outcome: "malformed", err: "malformed", after: "free", level: "ERROR"},
		{name: "not JSON", body: []byte(marker), status: 422, outcome: "malformed", err: "malformed", after: "free", level: "ERROR"},
		{name: "failed", handle: returns(own), status: 500, outcome: "failed", err: "own", after: "free", level: "ERROR"},
		{
			name: "failed, and Release too", handle: returns(own), prepare: fails(nil, nil, away),
			status: 500, outcome: "failed", err: "own", after: "held", level: "ERROR", log: []string{unsettled},
		},
		{name: "failed in Other", body: unknown, prepare: other(own), status: 500, outcome: "failed", err: "own", after: "free", level: "ERROR"},
		{
			name: "failed with ErrInFlight", handle: returns(grantexhook.ErrInFlight),
			status: 500, outcome: "failed", err: "is being handled", after: "free", level: "ERROR",
		},
		{
			name: "failed with ErrMalformed", handle: returns(grantexhook.ErrMalformed),
			status: 500, outcome: "failed", err: "malformed", after: "free", level: "ERROR",
		},
		{
			name: "failed with ErrStore", handle: returns(grantexhook.ErrStore),
			status: 500, outcome: "failed", err: "store failed", after: "free", level: "ERROR",
		},
		{
			name: "failed with another's deadline", handle: returns(context.DeadlineExceeded),
			status: 500, outcome: "failed", err: "deadline", after: "free", level: "ERROR",
		},
		{name: "panicked", handle: panics(own), status: 500, outcome: "panicked", err: "panicked: own", after: "free", level: "ERROR"},
		{
			name: "panicked late", handle: func(ctx context.Context) error { <-ctx.Done(); panic(own) }, prepare: quick,
			status: 500, outcome: "panicked", err: "panicked: own", after: "free", level: "ERROR",
		},
		{name: "aborted", handle: panics(http.ErrAbortHandler), outcome: "panicked", err: "did not return", after: "free"},
		{
			name: "gone", handle: func(context.Context) error { runtime.Goexit(); return nil },
			outcome: "panicked", err: "did not return", after: "free",
		},
		{name: "timed out", handle: late(own), prepare: quick, status: 503, outcome: "timed_out", err: "own", after: "free", level: "ERROR"},
		{
			name: "store failed", prepare: fails(away, nil, nil),
			status: 503, outcome: "store_failed", err: "store failed to claim the event: away", after: "free", level: "ERROR",
		},
	}
	statuses := map[string]int{}
	for _, test := range tests {
		if test.status != 0 {
			statuses[test.outcome] = test.status
		}
		t.Run(test.name, func(t *testing.T) {
			var store spyStore
			var seen traces
			var book logBook
			d := grantexhook.Dispatcher{Store: &store, Trace: seen.trace, Log: book.logger()}
			onAll(&d, func(ctx context.Context, _ any) error {
				if test.handle == nil {
					panic("the handler was called")
				}
				return test.handle(ctx)
			})
			if test.prepare != nil {
				test.prepare(&d, &store)
			}
			if test.body == nil {
				test.body = createdEvent
			}
			if test.level != "" {
				test.log = append(test.log, test.level+" grantexhook: event "+test.outcome)
			}
			status, text := post(t, newVerifier(t, secret, nil).Middleware(&d), test.body)
			require.Equal(t, test.status, status)
			require.Equal(t, test.outcome, seen.only(t).outcome)
			if test.err == "" {
				require.NoError(t, seen.only(t).err)
			} else {
				require.ErrorContains(t, seen.only(t).err, test.err)
			}
			require.Equal(t, test.after, store.state(t))
			require.Equal(t, test.log, book.lines(t))
			require.NotContains(t, book.String()+text, marker)
			require.NotContains(t, book.String()+text, markedNumber)
			require.Less(t, len(text), 100)
		})
	}
	require.Equal(t, documented(t, "outcome.go"), statuses)
}

func TestLogNamesTheEventAndTheCause(t *testing.T) {
	var book logBook
	d := grantexhook.Dispatcher{Log: book.logger()}
	onAll(&d, explodes)
	post(t, newVerifier(t, secret, nil).Middleware(&d), createdEvent)
	var r struct{ Event, Type, Error, Stack string }
	require.NoError(t, json.Unmarshal(book.Bytes(), &r))
	require.Equal(t, "evt_1", r.Event)
	require.Equal(t, "grant.created", r.Type)
	require.Equal(t, "grantexhook: handler panicked: boom", r.Error)
	require.Contains(t, r.Stack, "grantexhook_test.explodes(")
}

func explodes(context.Context, any) error { panic("boom") }

func TestLogNamesTheErrorOfTheStore(t *testing.T) {
	var book logBook
	d := grantexhook.Dispatcher{Store: &spyStore{releaseErr: errors.New("away")}, Log: book.logger()}
	onAll(&d, func(context.Context, any) error { return errors.New("own") })
	d.Dispatch(t.Context(), createdEvent)
	var r struct{ Event, Type, Outcome, Error string }
	require.NoError(t, json.Unmarshal(book.Bytes(), &r))
	require.Equal(t, struct{ Event, Type, Outcome, Error string }{"evt_1", "grant.created", "failed", "away"}, r)
}

func TestTraceGetsTheEvent(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 1, 56, 867e6, time.UTC)
	tests := []struct {
		name string
		body string
		want traced
	}{
		{"handled", string(createdEvent), traced{"evt_1", "grant.created", at, "handled", nil, 1}},
		{"unknown", `{"id":"evt_1","type":"x"}`, traced{"evt_1", "x", time.Time{}, "ignored", nil, 1}},
		{
			"guessed wrong", `{"data":{"type":"grant.revoked"},"id":"evt_1","type":"grant.created"}`,
			traced{"evt_1", "grant.created", time.Time{}, "handled", nil, 1},
		},
		{"malformed data", string(newEvent("grant.created", `[]`)), traced{"evt_1", "grant.created", at, "malformed", nil, 1}},
		{
			"malformed data, white space", `{"id": "evt_1", "type": "grant.created", "data": []}`,
			traced{"evt_1", "grant.created", time.Time{}, "malformed", nil, 1},
		},
		{
			"malformed data, guessed wrong", `{"v":{"type":"grant.revoked"},"id":"evt_1","type":"grant.created","data":[]}`,
			traced{"evt_1", "grant.created", time.Time{}, "malformed", nil, 1},
		},
		{"malformed id", `{"type":"grant.created","createdAt":"2026-11-23T12:01:56.867Z"}`, traced{"", "grant.created", at, "malformed", nil, 1}},
		{"malformed type", `{"id":"evt_1","createdAt":"2026-11-23T12:01:56.867Z"}`, traced{"evt_1", "", at, "malformed", nil, 1}},
		{"malformed time", `{"id":"evt_1","type":"grant.created","createdAt":"x"}`, traced{"evt_1", "grant.created", time.Time{}, "malformed", nil, 1}},
		{"no JSON", `x`, traced{"", "", time.Time{}, "malformed", nil, 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var seen traces
			d := grantexhook.Dispatcher{Trace: seen.trace}
			onAll(&d, func(context.Context, any) error { return nil })
			err := d.Dispatch(t.Context(), []byte(test.body))
			got := seen.only(t)
			require.True(t, got.err == err)
			got.err = nil
			require.Equal(t, test.want, got)
		})
	}
}

// Values that Trace puts into the context reach the handler and the Store.
func TestTraceGivesTheContext(t *testing.T) {
	var store spyStore
	d := grantexhook.Dispatcher{Store: &store}
	d.Trace = func(ctx context.Context, _, _ string, _ time.Time) (context.Context, func(string, error)) {
		return context.WithValue(ctx, ctxKey{}, "span"), func(string, error) {}
	}
	onAll(&d, func(ctx context.Context, _ any) error {
		require.Equal(t, "span", ctx.Value(ctxKey{}))
		return nil
	})
	require.Equal(t, http.StatusOK, record(t.Context(), t, &d, createdEvent).Code)
	require.Equal(t, "Claim Done", store.methods())
	for _, call := range store.calls {
		require.Equal(t, "span", call.value)
	}
}

func TestDispatcherWithoutMiddleware(t *testing.T) {
	var book logBook
	var seen traces
	d := grantexhook.Dispatcher{Log: book.logger(), Trace: seen.trace}
	onAll(&d, func(context.Context, any) error { t.Error("the handler was called"); return nil })
	status, _ := post(t, &d, createdEvent)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Empty(t, seen.all)
	require.Equal(t, []string{"ERROR grantexhook: request did not pass through Verifier.Middleware; not handled"}, book.lines(t))
	require.Contains(t, book.String(), `"path":"/"`)
}

func TestDispatcherLogsToTheDefault(t *testing.T) {
	var book bytes.Buffer
	defer log.SetOutput(log.Writer())
	log.SetOutput(&book)
	post(t, new(grantexhook.Dispatcher), createdEvent)
	require.Contains(t, book.String(), "ERROR grantexhook: request did not pass")
}

// A handler between the middleware and the Dispatcher may read and even replace the
// body. The Dispatcher still handles the signed event.
func TestDispatcherHandlesWhatWasVerified(t *testing.T) {
	var got any
	var d grantexhook.Dispatcher
	on[grantexhook.GrantRevoked](&d, &got)
	between := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		r.Body = io.NopCloser(strings.NewReader(`{"id":"evt_9","type":"grant.revoked","data":{"grantId":"forged"}}`))
		d.ServeHTTP(w, r)
	})
	status, _ := post(t, newVerifier(t, secret, nil).Middleware(between), newEvent("grant.revoked", `{"grantId":"signed"}`))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "signed", got.(grantexhook.Event[grantexhook.GrantRevoked]).Data.GrantID)
}

// An attempt that arrives while another is being handled gets 409, because the other
// may still fail.
func TestAttemptsMeet(t *testing.T) {
	tests := []struct {
		name   string
		end    func() error // of the first attempt
		status int
		calls  int // after a third attempt
	}{
		{"handled", func() error { return nil }, 200, 1},
		{"failed", func() error { return errors.New("own") }, 500, 2},
		{"panicked", func() error { panic("own") }, 500, 2},
		{"aborted", func() error { panic(http.ErrAbortHandler) }, 0, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			begun, end := make(chan bool), make(chan bool)
			calls := 0
			d := grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler)}
			onAll(&d, func(context.Context, any) error {
				if calls++; calls > 1 {
					return nil
				}
				begun <- true
				<-end
				return test.end()
			})
			h := newVerifier(t, secret, nil).Middleware(&d)
			answered := make(chan int)
			go func() {
				status, _ := post(t, h, createdEvent)
				answered <- status
			}()
			within(t, begun)
			status, _ := post(t, h, createdEvent)
			require.Equal(t, http.StatusConflict, status)
			end <- true
			require.Equal(t, test.status, within(t, answered))

			status, _ = post(t, h, createdEvent)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, test.calls, calls)
		})
	}
}

// If the sender hangs up, the handler's context doesn't end, and its result counts.
func TestSenderHangsUp(t *testing.T) {
	var d grantexhook.Dispatcher
	begun, ended := make(chan bool), make(chan error, 1)
	var request context.Context
	calls := 0
	onAll(&d, func(ctx context.Context, _ any) error {
		if calls++; calls > 1 {
			return errors.New("handled again")
		}
		begun <- true
		<-request.Done()
		ended <- ctx.Err()
		return nil
	})
	handled := make(chan bool, 2)
	h := newVerifier(t, secret, nil).Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request = r.Context()
		d.ServeHTTP(w, r)
		handled <- true
	}))
	srv := httptest.NewServer(h)
	defer srv.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	header := http.Header{}
	grantexhook.Sign(header, secret, createdEvent, time.Now())
	sent := make(chan error)
	go func() {
		_, err := srv.Client().Do(newPost(t, srv.URL, header, chunked(createdEvent)).WithContext(ctx))
		sent <- err
	}()
	within(t, begun)
	hangUp()
	require.ErrorIs(t, within(t, sent), context.Canceled)
	require.NoError(t, within(t, ended))
	within(t, handled)
	status, text := post(t, h, createdEvent)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, grantexhook.OutcomeDuplicate)
}

// The recordings contain retries of the same event, and several secrets.
func TestCapturesAreHandledOnce(t *testing.T) {
	opts := grantexhook.Options{RequireTimestamp: true, Tolerance: anyAge}
	want := make(map[string]int)
	for _, c := range capture.All() {
		opts.PreviousSecrets = append(opts.PreviousSecrets, c.Secret)
		want[c.EventType+" "+c.EventID] = 1
	}
	got := make(map[string]int)
	d := grantexhook.Dispatcher{Trace: func(ctx context.Context, id, eventType string, _ time.Time) (context.Context, func(string, error)) {
		return ctx, func(outcome string, err error) {
			if outcome == grantexhook.OutcomeHandled {
				got[eventType+" "+id]++
			}
		}
	}}
	onAll(&d, func(context.Context, any) error { return nil })
	srv := httptest.NewServer(newVerifier(t, secret, &opts).Middleware(&d))
	defer srv.Close()
	for _, c := range capture.All() {
		require.Equal(t, http.StatusOK, send(t, srv.Listener.Addr().String(), c.Wire()), c.Name)
	}
	require.Equal(t, want, got)
	require.Less(t, len(want), len(capture.All()))
}

// Each of many events is handled once, even if attempts at them overlap.
func TestManyEventsAtOnce(t *testing.T) {
	const events, attempts = 20, 4
	var mu sync.Mutex
	handled := make(map[string]int)
	d := grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler)}
	grantexhook.On(&d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		mu.Lock()
		defer mu.Unlock()
		handled[e.ID+" "+e.Data.GrantID]++
		return nil
	})
	h := newVerifier(t, secret, nil).Middleware(&d)
	var wg sync.WaitGroup
	want := make(map[string]int)
	for i := range events * attempts {
		id, grant := fmt.Sprint("evt_", i%events), fmt.Sprint("grnt_", i%events)
		want[id+" "+grant] = 1
		body := fmt.Appendf(nil, `{"id":%q,"type":"grant.revoked","data":{"grantId":%q}}`, id, grant)
		wg.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", chunked(body))
			grantexhook.Sign(r.Header, secret, body, time.Now())
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusOK && w.Code != http.StatusConflict {
				t.Errorf("status %d", w.Code)
			}
		})
	}
	wg.Wait()
	require.Equal(t, want, handled)
}

func TestPanicError(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		name  string
		value any
		text  string
		cause error
	}{
		{"text", "text", "grantexhook: handler panicked: text", nil},
		{"error", cause, "grantexhook: handler panicked: cause", cause},
		{"wrapped", fmt.Errorf("because: %w", cause), "grantexhook: handler panicked: because: cause", cause},
		{"nil", nil, "grantexhook: handler panicked: <nil>", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := &grantexhook.PanicError{Value: test.value, Stack: []byte(marker)}
			require.Equal(t, test.text, err.Error())
			if test.cause == nil {
				require.Nil(t, err.Unwrap())
				return
			}
			require.ErrorIs(t, err, test.cause)
		})
	}
}
