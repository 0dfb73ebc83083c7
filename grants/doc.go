// Package grants answers whether a grant is still active, from memory.
//
// Services verify grant tokens offline, so a token passes until it expires, even if its
// grant was revoked. A [Cache] knows within a second, as a rule, that a grant has
// ended, and its knowledge is never older than five minutes, whatever gets lost.
//
//	client := &grantexapi.Client{APIKey: grantexhook.Secret(os.Getenv("GRANTEX_API_KEY"))}
//	cache, err := grants.New(client, nil)
//	...
//	go cache.Run(ctx)
//	grantexhook.On(&d, cache.Revoked) // if you receive webhooks
//	mux.Handle("/tools/", cache.Middleware(grantID)(tools))
//
// Your grantID verifies the token with a JWT library and returns its claim "grnt". It
// must check the signature, iss, aud, exp and dev. Grantex signs the tokens of all
// accounts with the same key, so without dev a stranger's token reaches the Cache. It's
// rejected there, but each such grant costs a request.
//
// # How it learns
//
// [Cache.Run] asks for the list of active grants every minute, which proves all of them at
// once. It also reads the account's live stream of events, which reports most revocations
// within a second. Some ways of ending a grant cause no event, and events can be lost. The
// next list finds those grants. A grant that isn't in memory yet is asked for when it's
// checked.
//
// A check succeeds only if Grantex has said within Options.MaxAge that the grant is
// active. Otherwise it fails with [ErrStale], and [Cache.Middleware] answers 503. So if
// Grantex can't be reached, your service goes on for at most five minutes and then
// rejects requests. A grant that has ended stays ended, whatever arrives later.
//
// Always call Run in a service. Without it, each grant is asked for by itself, and the
// Cache never drops one from memory.
//
// # Work in progress
//
// The context of a request behind Middleware ends when the grant does. For work outside a
// request, such as a job or a message on a WebSocket, use [Cache.Context]. To end what you
// hold for a grant, for example sessions, set Options.Ended, and call [Cache.Watch] at
// startup with the grants that you hold something for.
//
// # What it doesn't see
//
// The API doesn't report any of these, so a check succeeds:
//
//   - One token was revoked by its jti, but not its grant.
//   - A budget is exhausted.
//   - The agent is suspended.
//   - The grant has expired. The token expires with it, so your verification rejects it.
//
// Before payments, deletions and whatever else can't be undone, ask online with
// POST /v1/tokens/verify.
//
// # Large accounts
//
// A list has about 320 bytes for each grant, and Grantex may cut off a list of more than
// about 100,000 grants. An incomplete list isn't used. When lists fail, or with a
// negative Options.Every, grants are asked for one by one. A grant with an open Context is
// then asked for again from half of MaxAge on. That allows about five open Contexts for
// each two calls a minute that your plan includes: 250 grants with 100 calls a minute,
// 5,000 with 2,000. All your processes share these calls. Contexts of further grants end
// with ErrStale. Without lists, grants that ended because an ancestor was revoked are
// known only when they're asked for, within MaxAge.
//
// # Several processes
//
// Each process has a Cache, which works alone. Grantex allows an account five streams, so
// set Options.NoStream from the sixth process on. A webhook reaches only one process.
// Those without a stream learn of a revocation from the next list. To pass it on at once,
// use any channel that all processes read, for example with Redis:
//
//	opts.Ended = func(ctx context.Context, grantIDs []string) error {
//		return rdb.Publish(ctx, channel, strings.Join(grantIDs, " ")).Err()
//	}
//	...
//	for m := range rdb.Subscribe(ctx, channel).Channel() {
//		cache.MarkEnded(strings.Fields(m.Payload)...)
//	}
//
// Each Cache reports a grant once, so the messages end. A lost message costs only time.
//
// # Operating it
//
// [Cache.Status] has what a health check and metrics need. Alert when Err isn't nil for
// minutes, or when ListAge exceeds a few minutes. Call [Cache.Sync] before you serve if the
// first requests shouldn't wait for Grantex. In tests, use hooktest.API in place of Grantex.
package grants
