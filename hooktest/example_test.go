package hooktest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

const secret = "4542b7f9be422960094f18d8373130cde8aab2e28346bc29"

// newHandler returns the handler to test. It passes grant.revoked to endSession, which
// must be idempotent and must work for grants that it doesn't know yet.
func newHandler(endSession func(ctx context.Context, grantID string) error) http.Handler {
	quiet := slog.New(slog.DiscardHandler)
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{Log: quiet})
	if err != nil {
		panic(err)
	}
	d := &grantexhook.Dispatcher{Log: quiet}
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		return endSession(ctx, e.Data.GrantID)
	})
	return v.Middleware(d)
}

// A body that you recorded is delivered byte for byte. Here it isn't an event, so the
// Dispatcher rejects it.
func ExampleRaw() {
	runTest("ExampleRaw", func(t *testing.T) { // func TestRecordedBody(t *testing.T)
		handler := newHandler(func(context.Context, string) error { return nil })
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, hooktest.NewRequest(t, secret, hooktest.Raw(`{"type":"grant.revoked"}`)))
		fmt.Println(w.Code)
	})
	// Output: 422
}

func ExampleNewRequest() {
	runTest("ExampleNewRequest", func(t *testing.T) { // func TestEndSession(t *testing.T)
		handler := newHandler(func(_ context.Context, grantID string) error {
			fmt.Printf("ending the session of %q\n", grantID)
			return nil
		})

		w := httptest.NewRecorder()
		handler.ServeHTTP(w, hooktest.NewRequest(t, secret, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
		fmt.Println(w.Code, w.Body)
	})
	// Output:
	// ending the session of "grnt_1"
	// 200 handled
}

func ExampleBody() {
	runTest("ExampleBody", func(t *testing.T) { // func TestWorker(t *testing.T)
		var d grantexhook.Dispatcher
		grantexhook.On(&d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
			fmt.Printf("ending the session of %q\n", e.Data.GrantID)
			return nil
		})

		body := hooktest.Body(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
		fmt.Println(d.Dispatch(t.Context(), body))
	})
	// Output:
	// ending the session of "grnt_1"
	// <nil>
}

// A failed delivery is retried after a minute. In a testing/synctest bubble that minute
// takes no time.
func ExampleSender_Deliver() {
	runTest("ExampleSender_Deliver", func(t *testing.T) { // func TestRetry(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			up := false
			handler := newHandler(func(context.Context, string) error {
				if up {
					return nil
				}
				up = true
				return errors.New("the database is down")
			})

			s := hooktest.Sender{Secret: secret, Handler: handler}
			report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
			fmt.Println(report)
			fmt.Println("delivered:", report.Delivered())
		})
	})
	// Output:
	// +0s 500 (took 0s)
	// +1m0s 200 (took 0s)
	// delivered: true
}

// An event arrives twice at the same time and once more later. It's handled once. The
// copy that arrives while the event is being handled gets 409 and is retried.
func ExampleSender_DeliverAtOnce() {
	runTest("ExampleSender_DeliverAtOnce", func(t *testing.T) { // func TestDuplicates(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			handler := newHandler(func(_ context.Context, grantID string) error {
				time.Sleep(time.Second)
				fmt.Printf("ending the session of %q\n", grantID)
				return nil
			})

			s := hooktest.Sender{Secret: secret, Handler: handler}
			e := hooktest.NewEvent(grantexhook.GrantRevoked{GrantID: "grnt_1"})
			attempts := 0
			for _, report := range s.DeliverAtOnce(t, e, e) {
				attempts += len(report)
			}
			fmt.Println(attempts, "attempts to deliver both")
			fmt.Println(s.Deliver(t, e))
		})
	})
	// Output:
	// ending the session of "grnt_1"
	// 3 attempts to deliver both
	// +0s 200 (took 0s)
}

// The fields of a Sender and of an Event make them misbehave.
func ExampleSender() {
	runTest("ExampleSender", func(t *testing.T) { // func TestMisbehaviour(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			handler := newHandler(func(_ context.Context, grantID string) error {
				fmt.Printf("ending the session of %q\n", grantID)
				return nil
			})
			s := hooktest.Sender{Secret: secret, Handler: handler, Attempts: 1}
			e := hooktest.NewEvent(grantexhook.GrantRevoked{GrantID: "grnt_1"})

			stranger := s
			stranger.Secret = "another"
			fmt.Println("a stranger: ", stranger.Deliver(t, e))

			replayed := s
			replayed.Skew = -time.Hour
			fmt.Println("a replay:   ", replayed.Deliver(t, e))

			fmt.Println("a new type: ", s.Deliver(t, hooktest.Event{Type: "agent.suspended"}))

			cut := s
			cut.Cut, cut.Attempts = 1, 2
			e.NewFields = true
			report := cut.Deliver(t, e)
			fmt.Println("a cut and new fields:", len(report), report.Delivered())
		})
	})
	// Output:
	// a stranger:  +0s 401 (took 0s)
	// a replay:    +0s 401 (took 0s)
	// a new type:  +0s 200 (took 0s)
	// ending the session of "grnt_1"
	// a cut and new fields: 2 true
}
