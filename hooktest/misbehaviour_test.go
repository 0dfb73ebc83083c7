package hooktest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

func statuses(r hooktest.Report) []int {
	all := make([]int, len(r))
	for i, a := range r {
		all[i] = a.Status
	}
	return all
}

func fiveTimes(status int) []int { return slices.Repeat([]int{status}, 5) }

var errDown = errors.New("the database is down")

func requireTimestamp(rec *receiver) { rec.opts.RequireTimestamp = true }

func handleTokens(rec *receiver) {
	grantexhook.On(&rec.Dispatcher, func(_ context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
		rec.handled <- e.ID
		return nil
	})
}

func nothing(*hooktest.Sender, *hooktest.Event) {}

func asItIs(*receiver) {}

// misbehaviours are what a Sender or an Event can do wrong, with the statuses
// that the library answers.
var misbehaviours = []struct {
	name    string
	misdo   func(s *hooktest.Sender, e *hooktest.Event)
	change  func(*receiver)
	want    []int
	handled int
	refused string
}{
	{name: "nothing", misdo: nothing, change: asItIs, want: []int{200}, handled: 1},
	{name: "largest skew", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Skew = -300 * time.Second }, change: asItIs, want: []int{200}, handled: 1},
	{name: "skew into the past", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Skew = -301 * time.Second }, change: asItIs, want: fiveTimes(401), refused: "stale"},
	{name: "skew into the future", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Skew = 301 * time.Second }, change: asItIs, want: fiveTimes(401), refused: "stale"},
	{name: "V2 stripped", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Legacy = true }, change: asItIs, want: []int{200}, handled: 1},
	{name: "V2 stripped where it is required", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Legacy = true }, change: requireTimestamp, want: fiveTimes(401), refused: "no_signature"},
	{name: "another secret", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Secret = "another" }, change: asItIs, want: fiveTimes(401), refused: "bad_signature"},
	{name: "the previous secret", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Secret = "old" }, change: func(rec *receiver) { rec.opts.PreviousSecrets = []string{"old"} }, want: []int{200}, handled: 1},
	{name: "unknown type", misdo: func(_ *hooktest.Sender, e *hooktest.Event) { *e = hooktest.Event{Type: "budget.exhausted"} }, change: asItIs, want: []int{200}},
	{name: "unknown fields", misdo: func(_ *hooktest.Sender, e *hooktest.Event) { e.NewFields = true }, change: asItIs, want: []int{200}, handled: 1},
	{name: "largest body", misdo: func(_ *hooktest.Sender, e *hooktest.Event) { *e = hooktest.Largest() }, change: handleTokens, want: []int{200}, handled: 1},
	{name: "body too large", misdo: nothing, change: func(rec *receiver) { rec.opts.MaxBody = 20 }, want: fiveTimes(413), refused: "too_large"},
	{name: "cut in the body", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Cut = 1 }, change: asItIs, want: []int{0, 200}, handled: 1, refused: "unreadable"},
	{name: "fewer attempts", misdo: func(s *hooktest.Sender, _ *hooktest.Event) { s.Attempts = 2; s.Legacy = true }, change: requireTimestamp, want: []int{401, 401}, refused: "no_signature"},
}

// TestMisbehaviour holds the library to its answers, over real connections.
func TestMisbehaviour(t *testing.T) {
	for _, tt := range misbehaviours {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, nil, tt.change)
				s, e := hooktest.Sender{Secret: secret, Handler: rec}, hooktest.NewEvent(revoked)
				tt.misdo(&s, &e)
				report := s.Deliver(t, e)
				require.Equal(t, tt.want, statuses(report), report)
				require.Equal(t, slices.Repeat([]string{e.ID}, tt.handled), append([]string{}, drain(rec.handled)...))
				require.Equal(t, tt.refused, first(slices.Compact(drain(rec.refused))))
				require.Equal(t, tt.want[len(tt.want)-1] == 200, report.Delivered())
			})
		})
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func TestNoEventAtAll(t *testing.T) {
	for name, body := range map[string]string{"empty": "", "no JSON": "hello", "no id": `{"type":"grant.revoked","data":{}}`, "no data": `{"id":"evt_1","type":"grant.revoked"}`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				report := hooktest.Sender{Secret: secret, Handler: newReceiver(t, nil)}.Deliver(t, hooktest.Raw(body))
				require.Equal(t, fiveTimes(422), statuses(report))
			})
		})
	}
}

func TestTheSameEventTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, nil)
		s, e := hooktest.Sender{Secret: secret, Handler: rec}, hooktest.NewEvent(revoked)
		require.Equal(t, "+0s 200 (took 0s)", s.Deliver(t, e).String())
		require.Equal(t, "+0s 200 (took 0s)", s.Deliver(t, e).String())
		require.Equal(t, []string{e.ID}, drain(rec.handled))
		s.Deliver(t, revoked)
		require.Len(t, drain(rec.handled), 1, "a plain payload is another event each time")
	})
}

// TestTwiceAtOnce holds that the copy which comes second is told to come again,
// and finds the event handled when it does.
func TestTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, func(context.Context) error { time.Sleep(2 * time.Second); return nil })
		e := hooktest.NewEvent(revoked)
		reports := hooktest.Sender{Secret: secret, Handler: rec}.DeliverAtOnce(t, e, e)
		got := []string{reports[0].String(), reports[1].String()}
		require.ElementsMatch(t, []string{"+0s 200 (took 2s)", "+0s 409 (took 0s)\n+1m0s 200 (took 0s)"}, got)
		require.Equal(t, []string{e.ID}, drain(rec.handled))
	})
}

func TestTwiceAtOnceAndTheFirstFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 1
		rec := newReceiver(t, func(context.Context) error {
			time.Sleep(2 * time.Second)
			failures--
			if failures >= 0 {
				return errDown
			}
			return nil
		})
		e := hooktest.NewEvent(revoked)
		reports := hooktest.Sender{Secret: secret, Handler: rec}.DeliverAtOnce(t, e, e)
		require.True(t, reports[0].Delivered(), reports[0])
		require.True(t, reports[1].Delivered(), reports[1])
		require.Equal(t, []string{e.ID, e.ID}, drain(rec.handled))
	})
}

func TestOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, nil, func(rec *receiver) {
			grantexhook.On(&rec.Dispatcher, func(_ context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
				rec.handled <- e.ID
				return nil
			})
		})
		s := hooktest.Sender{Secret: secret, Handler: rec}
		before, after := hooktest.NewEvent(grantexhook.GrantCreated{GrantID: "grnt_1"}), hooktest.NewEvent(revoked)
		require.True(t, s.Deliver(t, after).Delivered())
		require.True(t, s.Deliver(t, before).Delivered())
		require.Equal(t, []string{after.ID, before.ID}, drain(rec.handled))
	})
}

// TestTwoEndpointsOnOneURL is how a secret is rotated.
func TestTwoEndpointsOnOneURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t, nil, func(rec *receiver) { rec.opts.PreviousSecrets = []string{"old"} })
		e := hooktest.NewEvent(revoked)
		require.True(t, hooktest.Sender{Secret: "old", Handler: rec}.Deliver(t, e).Delivered())
		require.True(t, hooktest.Sender{Secret: secret, Handler: rec}.Deliver(t, e).Delivered())
		require.Equal(t, []string{e.ID}, drain(rec.handled))
	})
}

func TestSlowHandlers(t *testing.T) {
	for10s := "grantexhook: no whole answer within 10s: context deadline exceeded (took 10s)"
	tests := []struct {
		name    string
		handler func(context.Context) error
		sender  hooktest.Sender
		want    string
		handled int
	}{
		{"heeds its deadline", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, hooktest.Sender{Attempts: 1}, "+0s 503 (took 9s)", 1},
		{"is late but done", func(context.Context) error { time.Sleep(12 * time.Second); return nil }, hooktest.Sender{}, "+0s " + for10s + "\n+1m0s 200 (took 0s)", 1},
		{"is done when the sender hangs up early", func(ctx context.Context) error { time.Sleep(2 * time.Second); return ctx.Err() }, hooktest.Sender{Timeout: time.Second},
			"+0s grantexhook: no whole answer within 1s: context deadline exceeded (took 1s)\n+1m0s 200 (took 0s)", 1},
		{"still runs at the retry", func(context.Context) error { time.Sleep(61 * time.Second); return nil }, hooktest.Sender{Attempts: 2}, "+0s " + for10s + "\n+1m0s " + for10s, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, tt.handler)
				s := tt.sender
				s.Secret, s.Handler = secret, rec
				require.Equal(t, tt.want, s.Deliver(t, revoked).String())
				require.Len(t, drain(rec.handled), tt.handled)
			})
		})
	}
}
