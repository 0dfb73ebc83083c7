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
//	mux.Handle("/tools/", cache.Middleware(grantID)(tools))
package grants
