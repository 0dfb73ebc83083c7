package grantexhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// marker and markedNumber are in bodies that must not be quoted.
const (
	marker       = "MARKER"
	markedNumber = "1471147114" // fits 32 bits, and its first six digits are in the longer one of the tables
)

// newEvent returns the body of the event evt_1.
func newEvent(eventType, data string) []byte {
	return fmt.Appendf(nil, `{"id":"evt_1","type":%q,"createdAt":"2026-11-23T12:01:56.867Z","data":%s}`, eventType, data)
}

var createdEvent = newEvent("grant.created", `{"grantId":"`+marker+`","agentId":"`+marker+`","scopes":["`+marker+`"],"delegationDepth":`+markedNumber+`}`)

// onAll registers h for the three types of Grantex.
func onAll(d *grantexhook.Dispatcher, h func(context.Context, any) error) {
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error { return h(ctx, e) })
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error { return h(ctx, e) })
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error { return h(ctx, e) })
}

// A storeCall is a call of a Store's method.
type storeCall struct {
	method string
	id     string
	time   time.Duration // lease or keep
	ctxErr error
	left   time.Duration // until the deadline of the context
	value  any           // of the context
}

// A spyStore is a Store that records its calls and can fail.
type spyStore struct {
	grantexhook.MemoryStore
	claimErr, doneErr, releaseErr error
	claiming, settling            time.Duration // before the response, unless the context ends

	mu    sync.Mutex
	calls []storeCall
}

type ctxKey struct{}

func (s *spyStore) note(ctx context.Context, method, id string, d time.Duration) error {
	call := storeCall{method: method, id: id, time: d, ctxErr: ctx.Err(), value: ctx.Value(ctxKey{})}
	if at, ok := ctx.Deadline(); ok {
		call.left = time.Until(at)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	delay := s.settling
	if method == "Claim" {
		delay = s.claiming
	}
	if delay == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return nil
	}
}

func (s *spyStore) Claim(ctx context.Context, id string, lease time.Duration) (int64, bool, error) {
	if err := errors.Join(s.note(ctx, "Claim", id, lease), s.claimErr); err != nil {
		return 0, false, err
	}
	return s.MemoryStore.Claim(ctx, id, lease)
}

func (s *spyStore) Done(ctx context.Context, id string, keep time.Duration) error {
	if err := errors.Join(s.note(ctx, "Done", id, keep), s.doneErr); err != nil {
		return err
	}
	return s.MemoryStore.Done(ctx, id, keep)
}

func (s *spyStore) Release(ctx context.Context, id string, token int64) error {
	if err := errors.Join(s.note(ctx, "Release", id, 0), s.releaseErr); err != nil {
		return err
	}
	return s.MemoryStore.Release(ctx, id, token)
}

// methods returns the names of the methods that were called.
func (s *spyStore) methods() string {
	var names []string
	for _, c := range s.calls {
		names = append(names, c.method)
	}
	return strings.Join(names, " ")
}

// state returns the state of evt_1, without recording the call.
func (s *spyStore) state(t testing.TB) string {
	t.Helper()
	token, done, err := s.MemoryStore.Claim(t.Context(), "evt_1", time.Minute)
	require.NoError(t, err)
	switch {
	case done:
		return "done"
	case token == 0:
		return "held"
	}
	return "free"
}

// record serves a signed delivery of body without a network.
func record(ctx context.Context, t testing.TB, d *grantexhook.Dispatcher, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", chunked(body))
	grantexhook.Sign(r.Header, secret, body, time.Now())
	w := httptest.NewRecorder()
	newVerifier(t, secret, nil).Middleware(d).ServeHTTP(w, r)
	return w
}

type (
	pointed   struct{ ID string }
	stringly  string
	listed    []string
	anonymous struct{ ID string }
)

func (*pointed) EventType() string  { return "pointed" }
func (stringly) EventType() string  { return "stringly" }
func (listed) EventType() string    { return "listed" }
func (anonymous) EventType() string { return "" }

func TestOnPanics(t *testing.T) {
	var d grantexhook.Dispatcher
	onAll(&d, func(context.Context, any) error { return nil })
	tests := []struct {
		name string
		on   func()
		want []string // parts of the message
	}{
		{"nil handler", func() { grantexhook.On[grantexhook.GrantCreated](new(grantexhook.Dispatcher), nil) }, []string{"grant.created", "nil"}},
		{"second handler", func() { on[grantexhook.GrantRevoked](&d, nil) }, []string{"grant.revoked", "already", "call On once for each type"}},
		{"pointer", func() { on[*grantexhook.GrantCreated](&d, nil) }, []string{"On[*grantexhook.GrantCreated]", "struct or a map", "ptr"}},
		{"pointer with the method", func() { on[*pointed](&d, nil) }, []string{"On[*grantexhook_test.pointed]", "struct or a map", "ptr"}},
		{"interface", func() { on[grantexhook.Payload](&d, nil) }, []string{"On[grantexhook.Payload]", "struct or a map", "interface"}},
		{"string", func() { on[stringly](&d, nil) }, []string{"On[grantexhook_test.stringly]", "struct or a map", "string"}},
		{"slice", func() { on[listed](&d, nil) }, []string{"On[grantexhook_test.listed]", "struct or a map", "slice"}},
		{"empty type", func() { on[anonymous](&d, nil) }, []string{"On[grantexhook_test.anonymous]", "EventType", "empty"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			message := func() (v any) {
				defer func() { v = recover() }()
				test.on()
				return nil
			}()
			for _, part := range test.want {
				require.Contains(t, message, part)
			}
			require.Equal(t, []string{"grant.created", "grant.revoked", "token.issued"}, d.Types())
		})
	}
}

func TestTypesAreSorted(t *testing.T) {
	var d grantexhook.Dispatcher
	require.Empty(t, d.Types())
	on[grantexhook.TokenIssued](&d, nil)
	on[bag](&d, nil)
	on[grantexhook.GrantRevoked](&d, nil)
	on[grantexhook.GrantCreated](&d, nil)
	require.Equal(t, []string{"bag", "grant.created", "grant.revoked", "token.issued"}, d.Types())
}

// Payload types that a user might write.
type (
	bag      map[string]any
	flagged  struct{ Flag bool }
	extended struct {
		grantexhook.GrantCreated
		Reason string `json:"reason"`
	}
	verbatim struct{ JSON string } // decodes itself, from anything
	texty    struct{ Text string } // decodes itself, from a string
	bomb     struct{}              // cannot be decoded
)

func (bag) EventType() string      { return "bag" }
func (flagged) EventType() string  { return "flagged" }
func (verbatim) EventType() string { return "verbatim" }
func (texty) EventType() string    { return "texty" }
func (bomb) EventType() string     { return "bomb" }

func (v *verbatim) UnmarshalJSON(b []byte) error { v.JSON = string(b); return nil }
func (v *texty) UnmarshalText(b []byte) error    { v.Text = string(b); return nil }
func (*bomb) UnmarshalJSON([]byte) error         { panic("boom") }

func TestPayloads(t *testing.T) {
	type row struct {
		name, eventType, data string
		want                  any // the data, or nil if malformed
	}
	tests := []row{
		{"map", "bag", `{"a":1}`, bag{"a": 1.0}},
		{"empty map", "bag", ` { } `, bag{}},
		{"struct", "flagged", `{"flag":true}`, flagged{true}},
		{"zero struct", "flagged", `{"flag":false}`, flagged{}},
		{"empty struct", "flagged", `{}`, flagged{}},
		{"unknown fields", "flagged", `{"other":[1,{"flag":true}]}`, flagged{}},
		{"embedding one of ours", "grant.created", `{"grantId":"g","reason":"r"}`, extended{grantexhook.GrantCreated{GrantID: "g"}, "r"}},
		{"decoding itself", "verbatim", ` {"a": 1} `, verbatim{`{"a": 1}`}},
		{"decoding itself from text", "texty", `{}`, nil},
	}
	for _, eventType := range []string{"bag", "flagged", "grant.created", "verbatim", "texty"} {
		for _, data := range []string{`null`, `[]`, `[{}]`, `"text"`, `""`, `1`, `0`, `true`, `false`} {
			tests = append(tests, row{eventType + " from " + data, eventType, data, nil})
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got any
			var d grantexhook.Dispatcher
			onData[bag](&d, &got)
			onData[flagged](&d, &got)
			onData[extended](&d, &got)
			onData[verbatim](&d, &got)
			onData[texty](&d, &got)
			err := d.Dispatch(t.Context(), newEvent(test.eventType, test.data))
			require.Equal(t, test.want == nil, errors.Is(err, grantexhook.ErrMalformed))
			require.Equal(t, test.want != nil, err == nil)
			require.Equal(t, test.want, got)
		})
	}
}

func onData[T grantexhook.Payload](d *grantexhook.Dispatcher, got *any) {
	grantexhook.On(d, func(_ context.Context, e grantexhook.Event[T]) error {
		*got = e.Data
		return nil
	})
}

// A payload that panics while it decodes itself fails only its own event.
func TestPayloadPanics(t *testing.T) {
	var got any
	var store spyStore
	var seen traces
	d := grantexhook.Dispatcher{Store: &store, Trace: seen.trace}
	onData[bomb](&d, &got)
	onData[flagged](&d, &got)
	require.Equal(t, http.StatusInternalServerError, record(t.Context(), t, &d, newEvent("bomb", `{}`)).Code)
	require.Equal(t, grantexhook.OutcomePanicked, seen.only(t).outcome)
	require.Equal(t, "evt_1 bomb", seen.only(t).id+" "+seen.only(t).eventType)
	require.ErrorAs(t, seen.only(t).err, new(*grantexhook.PanicError))
	require.Empty(t, store.calls)
	require.Nil(t, got)

	require.NoError(t, d.Dispatch(t.Context(), []byte(`{"data":{"type":"bomb","flag":true},"id":"evt_1","type":"flagged"}`)))
	require.Equal(t, flagged{true}, got)
}

func TestUnknownTypes(t *testing.T) {
	for _, data := range []string{`{"a":1}`, `null`, `[1]`, `"text"`} {
		t.Run(data, func(t *testing.T) {
			body := newEvent("budget.exceeded", data)
			var store spyStore
			d := grantexhook.Dispatcher{Store: &store}
			onAll(&d, func(context.Context, any) error { return errors.New("not for this type") })
			require.NoError(t, d.Dispatch(t.Context(), body))
			require.Empty(t, store.calls, "an event without a handler need not be remembered")

			var got []grantexhook.RawEvent
			d.Other = func(_ context.Context, e grantexhook.RawEvent) error {
				got = append(got, e)
				return nil
			}
			for range 2 {
				require.NoError(t, d.Dispatch(t.Context(), body))
			}
			require.Equal(t, []grantexhook.RawEvent{decoded[json.RawMessage](t, string(body))}, got)
			require.Equal(t, "Claim Done Claim", store.methods())
		})
	}
}

// looseTimes are values of createdAt that Grantex never sends.
var looseTimes = []string{`""`, `"MARKER"`, `"2026-11-23"`, `"2026-11-23T12:01:56"`, `"2026-11-23T12:01:56+0100"`, `"2026-11-23 12:01:56Z"`,
	`"2026-02-30T12:01:56Z"`, `"99999-11-23T12:01:56Z"`, `471147114711`, `-1.5e300`, `true`, `false`, `{"MARKER":1}`, `[]`, `["2026-11-23T12:01:56Z"]`,
	`"2026-11-23T12:01:56Z","createdAt":471147114711`}

// TestUnknownTypesWithAnyTime checks that an event of an unknown type is
// acknowledged whatever its createdAt is, and that Other then gets a zero time.
// An event whose type has a handler must have a valid time.
func TestUnknownTypesWithAnyTime(t *testing.T) {
	for _, at := range looseTimes {
		for _, data := range []string{``, `,"data":null`, `,"data":[1]`, `,"data":"text"`, `,"data":{"type":"grant.created"}`} {
			t.Run(at+data, func(t *testing.T) {
				body := func(eventType string) []byte {
					return fmt.Appendf(nil, `{"id":"evt_1","type":%q,"createdAt":%s%s}`, eventType, at, data)
				}
				var seen traces
				d := grantexhook.Dispatcher{Trace: seen.trace}
				onAll(&d, func(context.Context, any) error { return errors.New("not for this event") })
				require.Equal(t, http.StatusOK, record(t.Context(), t, &d, body("budget.exceeded")).Code)
				require.Equal(t, traced{"evt_1", "budget.exceeded", time.Time{}, grantexhook.OutcomeIgnored, nil, 1}, seen.only(t))
				require.Equal(t, http.StatusUnprocessableEntity, record(t.Context(), t, &d, body("grant.created")).Code)

				var got any
				d.Other = func(_ context.Context, e grantexhook.RawEvent) error { got = e; return nil }
				require.NoError(t, d.Dispatch(t.Context(), body("budget.exceeded")))
				want := grantexhook.RawEvent{ID: "evt_1", Type: "budget.exceeded"}
				if data != "" {
					want.Data = json.RawMessage(strings.TrimPrefix(data, `,"data":`))
				}
				require.Equal(t, want, got)
			})
		}
	}
}

func TestDispatchErrors(t *testing.T) {
	own := errors.New("own")
	away := errors.New("away")
	tests := []struct {
		name   string
		store  *spyStore
		handle func(context.Context, any) error
		check  func(*testing.T, error)
		after  string // state of the event
	}{
		{"no error", &spyStore{}, func(context.Context, any) error { return nil }, func(t *testing.T, err error) { require.NoError(t, err) }, "done"},
		{"the handler's own", &spyStore{}, func(context.Context, any) error { return own }, func(t *testing.T, err error) {
			require.True(t, err == own, "as it is, not wrapped")
		}, "free"},
		{"the handler's own if Release fails too", &spyStore{releaseErr: away}, func(context.Context, any) error { return own }, func(t *testing.T, err error) {
			require.True(t, err == own, "as it is, not wrapped")
		}, "held"},
		{"no error if Done fails", &spyStore{doneErr: away}, func(context.Context, any) error { return nil }, func(t *testing.T, err error) {
			require.NoError(t, err)
		}, "held"},
		{"Claim fails", &spyStore{claimErr: away}, func(context.Context, any) error { panic("called") }, func(t *testing.T, err error) {
			require.ErrorIs(t, err, grantexhook.ErrStore)
			require.ErrorIs(t, err, away)
		}, "free"},
		{"panic with text", &spyStore{}, func(context.Context, any) error { panic("text") }, requirePanic("text"), "free"},
		{"panic with an error", &spyStore{}, func(context.Context, any) error { panic(own) }, func(t *testing.T, err error) {
			requirePanic(own)(t, err)
			require.ErrorIs(t, err, own)
		}, "free"},
		{"panic with what cannot be compared", &spyStore{}, func(context.Context, any) error { panic([]int{1}) }, requirePanic([]int{1}), "free"},
		{"panic with nil", &spyStore{}, func(context.Context, any) error { panic(nil) }, requirePanic(new(runtime.PanicNilError)), "free"},
		{"panic of the runtime", &spyStore{}, func(ctx context.Context, _ any) error { return *(*error)(nil) }, func(t *testing.T, err error) {
			var cause runtime.Error
			require.ErrorAs(t, err, &cause)
			require.ErrorAs(t, err, new(*grantexhook.PanicError))
		}, "free"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := grantexhook.Dispatcher{Store: test.store, Log: slog.New(slog.DiscardHandler)}
			onAll(&d, test.handle)
			test.check(t, d.Dispatch(t.Context(), createdEvent))
			require.Equal(t, test.after, test.store.state(t))
		})
	}
}

func requirePanic(value any) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		p, ok := err.(*grantexhook.PanicError)
		require.True(t, ok, "%T", err)
		require.Equal(t, value, p.Value)
		require.Contains(t, string(p.Stack), "TestDispatchErrors", "the stack leads to the handler")
		require.Equal(t, fmt.Sprintf("grantexhook: handler panicked: %v", value), err.Error())
		_, isErr := value.(error)
		require.Equal(t, isErr, errors.Unwrap(err) != nil)
	}
}

func TestDispatchInFlight(t *testing.T) {
	var store spyStore
	first := grantexhook.Dispatcher{Store: &store}
	second := grantexhook.Dispatcher{Store: &store}
	onAll(&second, func(context.Context, any) error { return errors.New("must not run") })
	calls := 0
	onAll(&first, func(ctx context.Context, _ any) error {
		if calls++; calls > 1 {
			return errors.New("must not run twice")
		}
		for _, d := range []*grantexhook.Dispatcher{&first, &second} {
			err := d.Dispatch(ctx, createdEvent)
			require.ErrorIs(t, err, grantexhook.ErrInFlight)
		}
		return nil
	})
	require.NoError(t, first.Dispatch(t.Context(), createdEvent))
	require.NoError(t, second.Dispatch(t.Context(), createdEvent), "an event that one has handled isn't handled by the other")
}

// A handler that ends its goroutine hasn't handled the event.
func TestDispatchWhatLeavesTheGoroutine(t *testing.T) {
	tests := []struct {
		name string
		exit func()
		want any // what Dispatch panics with
	}{
		{"runtime.Goexit", runtime.Goexit, nil},
		{"http.ErrAbortHandler", func() { panic(http.ErrAbortHandler) }, http.ErrAbortHandler},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var store spyStore
			var traced traces
			d := grantexhook.Dispatcher{Store: &store, Trace: traced.trace}
			onAll(&d, func(context.Context, any) error { test.exit(); return nil })
			left := make(chan any)
			go func() {
				defer func() { left <- recover() }()
				panic(fmt.Sprintf("it returned %v", d.Dispatch(t.Context(), createdEvent)))
			}()
			require.Equal(t, test.want, <-left)
			require.Equal(t, "Claim Release", store.methods())
			require.Equal(t, "free", store.state(t))
			require.Equal(t, grantexhook.OutcomePanicked, traced.only(t).outcome)
		})
	}
}

func TestDispatchAfterTheEnd(t *testing.T) {
	tests := []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled},
		{"past its deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, -1)
		}, context.DeadlineExceeded},
		{"past its deadline unawares", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return lateContext{ctx, time.Now().Add(-1)}, func() {}
		}, context.DeadlineExceeded},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := test.end(t.Context())
			defer cancel()
			var store spyStore
			var seen traces
			d := grantexhook.Dispatcher{Store: &store, Trace: seen.trace}
			onAll(&d, func(context.Context, any) error { t.Error("the handler was called"); return nil })
			require.ErrorIs(t, d.Dispatch(ctx, createdEvent), test.want)
			require.Empty(t, store.calls)
			require.Empty(t, seen.all)
		})
	}
}

// A lateContext is past its deadline, but its timer hasn't run yet.
type lateContext struct {
	context.Context
	at time.Time
}

func (c lateContext) Deadline() (time.Time, bool) { return c.at, true }

// A dispatch is one of the two ways to pass an event to a Dispatcher.
type dispatch func(ctx context.Context, t *testing.T, d *grantexhook.Dispatcher) error

func viaDispatch(ctx context.Context, t *testing.T, d *grantexhook.Dispatcher) error {
	return d.Dispatch(ctx, createdEvent)
}

func viaServeHTTP(ctx context.Context, t *testing.T, d *grantexhook.Dispatcher) error {
	record(ctx, t, d, createdEvent)
	return nil
}

func TestTimeGiven(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name     string
		via      dispatch
		timeout  time.Duration
		deadline time.Duration // of the caller, if not 0
		want     time.Duration // that the handler has
		lease    time.Duration
	}{
		{"ServeHTTP", viaServeHTTP, 0, 0, 9 * time.Second, 18 * time.Second},
		{"ServeHTTP, Timeout", viaServeHTTP, 3 * time.Second, 0, 3 * time.Second, 6 * time.Second},
		{"ServeHTTP, negative Timeout", viaServeHTTP, -1, 0, 9 * time.Second, 18 * time.Second},
		{"ServeHTTP, longer Timeout", viaServeHTTP, 30 * time.Second, 0, 30 * time.Second, time.Minute},
		{"ServeHTTP, deadline of the request", viaServeHTTP, 0, time.Second, 9 * time.Second, 18 * time.Second},
		{"ServeHTTP, endless Timeout", viaServeHTTP, math.MaxInt64, 0, math.MaxInt64, 2 * day},
		{"Dispatch", viaDispatch, 0, 0, 9 * time.Second, 18 * time.Second},
		{"Dispatch, Timeout", viaDispatch, 3 * time.Second, 0, 3 * time.Second, 6 * time.Second},
		{"Dispatch, negative Timeout", viaDispatch, -1, 0, 9 * time.Second, 18 * time.Second},
		{"Dispatch, shorter deadline", viaDispatch, 3 * time.Second, time.Second, time.Second, 2 * time.Second},
		{"Dispatch, longer deadline", viaDispatch, 3 * time.Second, time.Hour, time.Hour, 2 * time.Hour},
		{"Dispatch, deadline in ten days", viaDispatch, 0, 10 * day, 10 * day, 2 * day},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store spyStore
				d := grantexhook.Dispatcher{Store: &store, Timeout: test.timeout}
				var left time.Duration
				var given context.Context
				onAll(&d, func(ctx context.Context, _ any) error {
					at, ok := ctx.Deadline()
					require.True(t, ok)
					left, given = time.Until(at), ctx
					return nil
				})
				ctx := t.Context()
				if test.deadline != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				require.NoError(t, test.via(ctx, t, &d))
				require.Equal(t, test.want, left)
				require.ErrorIs(t, given.Err(), context.Canceled, "the goroutine that the handler left behind must end")
				require.Equal(t, "Claim Done", store.methods())
				require.Equal(t, test.want, store.calls[0].left, "Claim must end in time as well")
				require.Equal(t, test.lease, store.calls[0].time)
				require.Equal(t, day, store.calls[1].time)
			})
		})
	}
}

// TestDispatcherDeadline checks what the result of a handler counts before and after
// the deadline, what ends the handler's context, and that the Dispatcher settles the
// claim in every case.
func TestDispatcherDeadline(t *testing.T) {
	const s = time.Second
	failed := errors.New("failed")
	after := func(d time.Duration, err error) func(context.Context) error {
		return func(context.Context) error { time.Sleep(d); return err }
	}
	atTheEnd := func(err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	type result struct {
		outcome string
		took    time.Duration
	}
	tests := []struct {
		name               string
		hangUp             time.Duration // of the sender, if not 0
		claiming, settling time.Duration // of the Store
		handle             func(context.Context) error
		served, dispatched result
	}{
		{"nil in time", 0, 0, 0, after(8*s, nil), result{"handled", 8 * s}, result{"handled", 8 * s}},
		{"nil late", 0, 0, 0, atTheEnd(nil), result{"handled", 9 * s}, result{"handled", 9 * s}},
		{"nil a minute late", 0, 0, 0, after(69*s, nil), result{"handled", 69 * s}, result{"handled", 69 * s}},
		{"error in time", 0, 0, 0, after(9*s-1, failed), result{"failed", 9*s - 1}, result{"failed", 9*s - 1}},
		{"error late", 0, 0, 0, after(9*s+1, failed), result{"timed_out", 9*s + 1}, result{"timed_out", 9*s + 1}},
		{"error at the end", 0, 0, 0, atTheEnd(failed), result{"timed_out", 9 * s}, result{"timed_out", 9 * s}},
		{"panic late", 0, 0, 0, func(ctx context.Context) error { <-ctx.Done(); panic(marker) }, result{"panicked", 9 * s}, result{"panicked", 9 * s}},

		{"hung up, nil", s, 0, 0, after(5*s, nil), result{"handled", 5 * s}, result{"handled", 5 * s}},
		{"hung up, error", s, 0, 0, after(5*s, failed), result{"failed", 5 * s}, result{"failed", 5 * s}},
		{"hung up, nil at the end", s, 0, 0, atTheEnd(nil), result{"handled", 9 * s}, result{"handled", s}},
		{"hung up, error at the end", s, 0, 0, atTheEnd(failed), result{"timed_out", 9 * s}, result{"failed", s}},
		{"hung up before", 1, s, 0, atTheEnd(failed), result{"timed_out", 9 * s}, result{"store_failed", 1}},

		{"slow Claim", 0, 5 * s, 0, atTheEnd(failed), result{"timed_out", 9 * s}, result{"timed_out", 9 * s}},
		{"too slow Claim", 0, 20 * s, 0, after(0, nil), result{"store_failed", 9 * s}, result{"store_failed", 9 * s}},
		{"slow Done", 0, 0, 2*s - 1, after(s, nil), result{"handled", 3*s - 1}, result{"handled", 3*s - 1}},
		{"too slow Done", 0, 0, 20 * s, after(s, nil), result{"handled", 3 * s}, result{"handled", 3 * s}},
		{"too slow Release", 0, 0, 20 * s, after(s, failed), result{"failed", 3 * s}, result{"failed", 3 * s}},
		{"too slow Release, late", 0, 0, 20 * s, atTheEnd(failed), result{"timed_out", 11 * s}, result{"timed_out", 11 * s}},
	}
	for _, test := range tests {
		for name, via := range map[string]struct {
			dispatch
			want result
		}{
			"ServeHTTP": {viaServeHTTP, test.served},
			"Dispatch":  {viaDispatch, test.dispatched},
		} {
			t.Run(test.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := spyStore{claiming: test.claiming, settling: test.settling}
					var traced traces
					d := grantexhook.Dispatcher{Store: &store, Trace: traced.trace, Log: slog.New(slog.DiscardHandler)}
					onAll(&d, func(ctx context.Context, _ any) error {
						require.Equal(t, "value", ctx.Value(ctxKey{}))
						return test.handle(ctx)
					})
					ctx, cancel := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "value"))
					defer cancel()
					if test.hangUp != 0 {
						time.AfterFunc(test.hangUp, cancel)
					}
					start := time.Now()
					via.dispatch(ctx, t, &d)
					require.Equal(t, via.want, result{traced.only(t).outcome, time.Since(start)})
					requireSettled(t, &store, via.want.outcome)
				})
			})
		}
	}
}

// requireSettled checks that the outcome was recorded in the Store, with a context that
// hadn't ended, had two seconds left, and had the values of the caller's.
func requireSettled(t *testing.T, store *spyStore, outcome string) {
	t.Helper()
	want := []string{"Claim", "Release"}
	switch outcome {
	case "handled":
		want[1] = "Done"
	case "store_failed":
		want = want[:1]
	}
	require.Equal(t, strings.Join(want, " "), store.methods())
	for _, call := range store.calls {
		require.Equal(t, "evt_1", call.id)
		require.Equal(t, "value", call.value)
	}
	for _, call := range store.calls[1:] {
		require.NoError(t, call.ctxErr)
		require.Equal(t, 2*time.Second, call.left)
	}
}
