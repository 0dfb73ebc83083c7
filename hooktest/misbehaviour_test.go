package hooktest_test

import (
	"cmp"
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

func useOldSecret(rec *receiver) { rec.opts.PreviousSecrets = []string{"old"} }

func smallMaxBody(rec *receiver) { rec.opts.MaxBody = 20 }

// misbehaviours are what a Sender or an Event can do wrong, with the library's
// statuses.
var misbehaviours = []struct {
	name    string
	sender  hooktest.Sender // without the secret and the handler
	secret  string          // the receiver's if empty
	change  func(e *hooktest.Event)
	receive func(*receiver)
	want    []int
	handled int
	refused string
}{
	{name: "well-behaved", want: []int{200}, handled: 1},
	{name: "largest skew", sender: hooktest.Sender{Skew: -300 * time.Second}, want: []int{200}, handled: 1},
	{name: "skew into the past", sender: hooktest.Sender{Skew: -301 * time.Second}, want: fiveTimes(401), refused: "stale"},
	{name: "skew into the future", sender: hooktest.Sender{Skew: 301 * time.Second}, want: fiveTimes(401), refused: "stale"},
	{name: "V2 stripped", sender: hooktest.Sender{Legacy: true}, want: []int{200}, handled: 1},
	{name: "V2 stripped, required", sender: hooktest.Sender{Legacy: true}, receive: requireTimestamp, want: fiveTimes(401), refused: "no_signature"},
	{name: "another secret", secret: "another", want: fiveTimes(401), refused: "bad_signature"},
	{name: "the previous secret", secret: "old", receive: useOldSecret, want: []int{200}, handled: 1},
	{name: "unknown type", change: func(e *hooktest.Event) { *e = hooktest.Event{Type: "budget.exhausted"} }, want: []int{200}},
	{name: "unknown fields", change: func(e *hooktest.Event) { e.NewFields = true }, want: []int{200}, handled: 1},
	{name: "largest body", change: func(e *hooktest.Event) { *e = hooktest.Largest() }, receive: handleTokens, want: []int{200}, handled: 1},
	{name: "body too large", receive: smallMaxBody, want: fiveTimes(413), refused: "too_large"},
	{name: "cut in the body", sender: hooktest.Sender{Cut: 1}, want: []int{0, 200}, handled: 1, refused: "unreadable"},
	{
		name: "fewer attempts", sender: hooktest.Sender{Attempts: 2, Legacy: true}, receive: requireTimestamp,
		want: []int{401, 401}, refused: "no_signature",
	},
}

// TestMisbehaviour checks the library's statuses over real connections.
func TestMisbehaviour(t *testing.T) {
	for _, tt := range misbehaviours {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newReceiver(t, nil, optional(tt.receive)...)
				s, e := tt.sender, hooktest.NewEvent(revoked)
				s.Secret, s.Handler = cmp.Or(tt.secret, secret), rec
				for _, change := range optional(tt.change) {
					change(&e)
				}
				report := s.Deliver(t, e)
				require.Equal(t, tt.want, statuses(report), report)
				require.Equal(t, slices.Repeat([]string{e.ID}, tt.handled), append([]string{}, drain(rec.handled)...))
				require.Equal(t, tt.refused, first(slices.Compact(drain(rec.refused))))
				require.Equal(t, tt.want[len(tt.want)-1] == 200, report.Delivered())
			})
		})
	}
}

// optional returns f, unless it is nil.
func optional[T any](f func(T)) []func(T) {
	if f == nil {
		return nil
	}
	return []func(T){f}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func TestMalformedBody(t *testing.T) {
	tests := []struct{ name, body string }{
		{"empty", ""},
		{"not JSON", "hello"},
		{"no id", `{"type":"grant.revoked","data":{}}`},
		{"no data", `{"id":"evt_1","type":"grant.revoked"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				report := hooktest.Sender{Secret: secret, Handler: newReceiver(t, nil)}.Deliver(t, hooktest.Raw(tt.body))
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
		require.Len(t, drain(rec.handled), 1, "a plain payload gets a new id each time")
	})
}

// TestTwiceAtOnce checks that the second copy gets 409, and that its retry finds the
// event handled.
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

// TestTwoEndpointsOnOneURL delivers an event as during the rotation of a secret.
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
	const (
		hungUp10 = "grantexhook: timed out after 10s: context deadline exceeded (took 10s)"
		hungUp1  = "grantexhook: timed out after 1s: context deadline exceeded (took 1s)"
	)
	tests := []struct {
		name    string
		handler func(context.Context) error
		sender  hooktest.Sender
		want    string
		handled int
	}{
		{
			name:    "heeds its deadline",
			handler: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			sender:  hooktest.Sender{Attempts: 1},
			want:    "+0s 503 (took 9s)",
			handled: 1,
		},
		{
			name:    "is late but succeeds",
			handler: func(context.Context) error { time.Sleep(12 * time.Second); return nil },
			want:    "+0s " + hungUp10 + "\n+1m0s 200 (took 0s)",
			handled: 1,
		},
		{
			name:    "succeeds after the sender hung up early",
			handler: func(ctx context.Context) error { time.Sleep(2 * time.Second); return ctx.Err() },
			sender:  hooktest.Sender{Timeout: time.Second},
			want:    "+0s " + hungUp1 + "\n+1m0s 200 (took 0s)",
			handled: 1,
		},
		{
			name:    "is still running at the retry",
			handler: func(context.Context) error { time.Sleep(61 * time.Second); return nil },
			sender:  hooktest.Sender{Attempts: 2},
			want:    "+0s " + hungUp10 + "\n+1m0s " + hungUp10,
			handled: 2,
		},
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
