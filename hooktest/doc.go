// Package hooktest tests webhook handlers with the requests that Grantex would
// send, and programs that call Grantex with an API in memory. It doesn't need Grantex
// or a network, and it imports only grantexhook and the standard library.
//
// A handler behind the middleware needs a signed request:
//
//	w := httptest.NewRecorder()
//	handler.ServeHTTP(w, hooktest.NewRequest(t, secret, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
//
// A Dispatcher by itself, for example in a queue's worker, needs a body:
//
//	err := d.Dispatch(t.Context(), hooktest.Body(t, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
//
// A [Sender] performs the whole delivery. It connects to your handler, waits up to ten
// seconds for the response and retries failures at the intervals that Grantex does.
// All attempts together take ten minutes, or seven and a half with Soonest. Inside a
// [testing/synctest] bubble they take no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		s := hooktest.Sender{Secret: secret, Handler: handler}
//		report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
//		if !report.Delivered() || len(report) != 2 {
//			t.Errorf("want one failure, then a success; got\n%v", report)
//		}
//	})
//
// Outside a bubble it retries in real time. If a retry would come after the deadline
// of go test, the test fails at once. Set Attempts to 1 if you need no retries.
//
// To start, copy model_test.go from this package's directory. It's a complete test of a
// handler: events in any order, duplicates, a retry and a stranger.
//
// # Misbehavior
//
// Your handler should cope with everything that Grantex does, and with strangers:
//
//	e := hooktest.NewEvent(payload)               // one event, the same bytes each time
//	s.Deliver(t, e); s.Deliver(t, e)              // a duplicate
//	s.DeliverAtOnce(t, e, e)                      // two copies at the same time
//	s.Deliver(t, revoked); s.Deliver(t, created)  // out of order
//	s.Deliver(t, hooktest.Event{Type: "x.y"})     // a type that you don't know yet
//	e.NewFields = true                            // fields that you don't know yet
//	s.Deliver(t, hooktest.Largest())              // the largest possible body
//	s.Deliver(t, hooktest.Raw(body))              // a recorded body, or one that isn't an event
//	s.Legacy = true                               // no V2 signature: stripped, or an old Grantex
//	s.Skew = -time.Hour                           // a replay, or a clock that is wrong
//	s.Secret = "another"                          // a stranger
//	s.Cut = 1                                     // a connection that breaks in the middle of the body
//	s.Timeout = time.Second                       // a sender that hangs up early
//	s.Soonest = true                              // retries as early as Grantex can send them
//
// Deliver also fails the test if your handler responds with 204, 205 or 304. These crash
// the real sender's process.
//
// # A Grantex API
//
// An [API] is Grantex itself, in memory: grants, webhook endpoints, the event stream, and
// tokens with the key set that verifies them. It needs no testing.TB, so a program can
// use it as a demo account.
//
//	api := hooktest.NewAPI()
//	defer api.Close()
//	client := &grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}
//	api.Endpoint(hooktest.Sender{Secret: secret, Handler: handler})
//
//	grant := api.Create(grantexhook.GrantCreated{Scopes: []string{"read"}})
//	token := api.Token(grant.GrantID, "https://example.com")
//	api.Create(grantexhook.GrantCreated{ParentGrantID: grant.GrantID}) // delegates it
//	api.Revoke(grant.GrantID)                                          // and what was delegated from it
//	api.RevokeBy("anomaly.auto_revoked", grant.GrantID)                // without a grant.revoked
//	api.DeleteAgent(grant.AgentID)                                     // without any event
//	api.Intercept(f)                                                   // slow, failing, broken or partial responses
//	api.Schedule(f)                                                    // events lost, late, twice or out of order
//	api.Crash()                                                        // all streams break and count on
//
// Outside a bubble, serve it with [net/http/httptest.NewServer].
//
// # In other languages
//
// The file testdata/vectors.json contains recorded and invalid deliveries, with the
// result that a verifier should return. The README next to it describes the format.
package hooktest
