package hooktest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/hooktest"
)

// A grant is revoked. Your handler gets the webhook, and the API reports the new status.
func ExampleAPI() {
	runTest("ExampleAPI", func(t *testing.T) { // func TestRevoked(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			api := hooktest.NewAPI()
			defer api.Close()
			client := &grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}
			handler := newHandler(func(_ context.Context, grantID string) error {
				fmt.Printf("ending the session of %q\n", grantID)
				return nil
			})
			api.Endpoint(hooktest.Sender{Secret: secret, Handler: handler}, grantexhook.TypeGrantRevoked)

			api.Create(grantexhook.GrantCreated{GrantID: "grnt_1", Scopes: []string{"read"}})
			api.Revoke("grnt_1")
			synctest.Wait() // until it's delivered

			grant, err := client.Grant(t.Context(), "grnt_1")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println(grant.Status)
		})
	})
	// Output:
	// ending the session of "grnt_1"
	// revoked
}

// The grant.created of a grant is a minute late, and its grant.revoked arrives twice. The
// second one is a duplicate, which the handler doesn't see.
func ExampleAPI_Schedule() {
	runTest("ExampleAPI_Schedule", func(t *testing.T) { // func TestLateEvent(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			api := hooktest.NewAPI()
			defer api.Close()
			v, err := grantexhook.NewVerifier(secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			d := &grantexhook.Dispatcher{Other: func(_ context.Context, e grantexhook.RawEvent) error {
				fmt.Println(e.Type)
				return nil
			}}
			api.Endpoint(hooktest.Sender{Secret: secret, Handler: v.Middleware(d)}, grantexhook.TypeGrantCreated, grantexhook.TypeGrantRevoked)

			api.Schedule(func(e grantexhook.RawEvent, endpointID string) []time.Duration {
				if e.Type == grantexhook.TypeGrantCreated {
					return []time.Duration{time.Minute}
				}
				return []time.Duration{0, time.Second}
			})
			api.Revoke(api.Create(grantexhook.GrantCreated{}).GrantID)
			time.Sleep(time.Hour)
		})
	})
	// Output:
	// grant.revoked
	// grant.created
}

// The API is down for a minute, but the event stream stays.
func ExampleAPI_Intercept() {
	runTest("ExampleAPI_Intercept", func(t *testing.T) { // func TestOutage(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			api := hooktest.NewAPI()
			defer api.Close()
			client := &grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}
			up := time.Now().Add(time.Minute)
			api.Intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == "/v1/events/stream" || time.Now().After(up) {
					next.ServeHTTP(w, r)
					return
				}
				http.Error(w, "down", http.StatusServiceUnavailable)
			})

			_, err := client.List(t.Context())
			fmt.Println(err)
			time.Sleep(2 * time.Minute)
			_, err = client.List(t.Context())
			fmt.Println(err)
		})
	})
	// Output:
	// grantexapi: the API returned 503: down
	// <nil>
}
