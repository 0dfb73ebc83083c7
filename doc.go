// Package grantexhook receives Grantex webhooks. Every delivery is verified,
// duplicates are dropped, and Grantex gets a 200 only after your handler returns.
//
//	v, err := grantexhook.NewVerifier(os.Getenv("GRANTEX_WEBHOOK_SECRET"), &grantexhook.Options{RequireTimestamp: true})
//	...
//	var d grantexhook.Dispatcher
//	grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
//		return sessions.End(ctx, e.Data.GrantID) // which must also work before the session exists
//	})
//	http.Handle("POST /webhooks/grantex", v.Middleware(&d))
//
// A [Verifier] checks the signature of the raw body. A [Dispatcher] decodes the
// event, calls the handler of its type, and remembers in a [Store] that it was
// handled. You can use either without the other. Package grantexapi creates the
// endpoint, and package hooktest helps you test your handlers.
//
// # Writing handlers
//
// Events arrive in any order, and may arrive more than once. The Dispatcher drops
// duplicates, but if a process or the Store fails, an event can be handled again.
// Handlers must be idempotent. They must also tolerate a revocation that arrives
// before the grant it ends. For example, sessions.End must record the grant, and a
// session must not open for a grant that has ended. The example "Grants" of package
// [grantex.dev/grantexhook/sqlstore] does this. Several processes should share a
// Store of package sqlstore or module redisstore.
//
// Grantex waits ten seconds for a response. It makes five attempts within seven and
// a half to ten minutes; then the event is lost. Slow work belongs in a queue: store
// the verified body, respond with 200, and let a worker call [Dispatcher.Dispatch]
// with a longer deadline. Module riverinbox does that.
//
// The signature covers the exact bytes sent. Nothing may read the body before the
// middleware; re-encoded JSON won't match.
//
// # Compatibility
//
// Unknown fields are ignored. Events of unknown types are acknowledged, or passed to
// [Dispatcher].Other; your own [Payload] types work with [On]. Until version 1, a
// minor version may change the API; CHANGELOG.md lists the changes.
package grantexhook
