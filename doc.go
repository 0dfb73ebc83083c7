// Package grantexhook receives the webhooks of Grantex, the delegated
// authorization for AI agents: every delivery verified, duplicates recognised,
// and no event acknowledged before its handler has finished or, with an inbox,
// before it is stored.
//
//	v, err := grantexhook.NewVerifier(os.Getenv("GRANTEX_WEBHOOK_SECRET"), &grantexhook.Options{RequireTimestamp: true})
//	...
//	var d grantexhook.Dispatcher
//	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
//		return sessions.End(ctx, e.Data.GrantID)
//	})
//	http.Handle("POST /webhooks/grantex", v.Middleware(&d))
//
// A [Verifier] checks the signature of the raw body, and hands on only what
// Grantex signed. A [Dispatcher] decodes the event, hands it to the handler of
// its type and remembers in a [Store] that it was handled. Either can be used
// without the other. Package grantexapi creates the endpoint to deliver to, and
// package hooktest is for tests of handlers.
//
// # What a handler has to know
//
// The signature is that of the bytes as they were sent. Nothing may read or
// decode the body before the middleware does; a JSON value that is encoded again
// is no longer what was signed.
//
// Grantex waits ten seconds for the answer. It makes five attempts within seven and
// a half to ten minutes; after that the event is lost. What takes longer belongs in
// a queue: store the verified body, answer 200, and call [Dispatcher.Dispatch]
// from its worker, with a context whose deadline allows for the work. Module
// riverinbox does that.
//
// Events arrive in any order, a revocation before the grant that it ends
// included, and more than once. The Dispatcher handles each once, unless a
// process or the Store fails at the wrong moment; so a handler has to bear a
// repetition. Several processes share a Store of package sqlstore or of module
// redisstore.
//
// # Compatibility
//
// Fields that Grantex adds to an event are ignored, and types it adds are
// acknowledged, or given to [Dispatcher].Other. A type of your own that is a
// [Payload] works with [On] like those of this package. Deliveries of senders
// older than 2026-08-13, which carry no timestamp, are accepted unless
// [Options].RequireTimestamp is set. Until version 1, a minor version may change
// the API; CHANGELOG.md then says so.
package grantexhook
