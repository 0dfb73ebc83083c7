// Package hooktest tests the handlers of Grantex's webhooks with requests and
// deliveries such as Grantex makes them, without Grantex. It stands on the
// standard library alone.
//
// A handler behind the middleware needs a request that is signed:
//
//	w := httptest.NewRecorder()
//	handler.ServeHTTP(w, hooktest.NewRequest(t, secret, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
//
// A Dispatcher on its own, in the worker of a queue for instance, needs a body:
//
//	err := d.Dispatch(t.Context(), hooktest.Body(t, grantexhook.GrantRevoked{GrantID: "grnt_1"}))
//
// A [Sender] makes the whole delivery over a connection: it waits ten seconds
// for the answer and retries what failed for as long as Grantex does. That takes
// ten minutes, or seven and a half with Soonest, but no time at all inside a
// [testing/synctest] bubble:
//
//	synctest.Test(t, func(t *testing.T) {
//		s := hooktest.Sender{Secret: secret, Handler: handler}
//		report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
//		if !report.Delivered() || len(report) != 2 {
//			t.Errorf("want one failure, then a success; got %v", report)
//		}
//	})
//
// Outside a bubble it retries in real time, but not past the deadline of go test:
// then it fails the test. Set Attempts to 1 to see only the first.
//
// # Misbehaviour
//
// A handler has to bear what Grantex does, and what others do to it:
//
//	e := hooktest.NewEvent(payload)               // one event, the same bytes each time
//	s.Deliver(t, e); s.Deliver(t, e)              // the same event twice
//	s.DeliverAtOnce(t, e, e)                      // twice at once
//	s.Deliver(t, revoked); s.Deliver(t, created)  // out of order
//	s.Deliver(t, hooktest.Event{Type: "x.y"})     // a type that is not known yet
//	e.NewFields = true                            // fields that are not known yet
//	s.Deliver(t, hooktest.Largest())              // the largest body there can be
//	s.Deliver(t, hooktest.Raw(body))              // a body that was recorded, or is no event
//	s.Legacy = true                               // V2 stripped, or an old Grantex
//	s.Skew = -time.Hour                           // a replay, or a clock that is wrong
//	s.Secret = "another"                          // a stranger
//	s.Cut = 1                                     // the connection cut in the middle of the body
//	s.Timeout = time.Second                       // a sender that hangs up early
//	s.Soonest = true                              // retries as early as Grantex can send them
//
// A handler that answers 204, 205 or 304 fails the test: these crash the process
// of the real sender.
//
// # In other languages
//
// The file testdata/vectors.json holds deliveries, recorded ones and others that
// are wrong in every way, with what a verifier has to make of each; README.md
// beside it describes them.
package hooktest
