package grants_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// A job works for a grant until that ends. Here, another process has learned that it
// ended and passes that on.
func ExampleCache_Context() {
	api := hooktest.NewAPI() // in place of Grantex
	defer api.Close()
	cache, err := grants.New(&grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}, nil)
	if err != nil {
		log.Fatal(err)
	}
	grant := api.Create(grantexhook.GrantCreated{})

	job := func(ctx context.Context) {
		ctx, cancel, err := cache.Context(ctx, grant.GrantID)
		defer cancel()
		if err != nil {
			fmt.Println("not started:", err)
			return
		}
		fmt.Println("started")
		go cache.MarkEnded(grant.GrantID) // what the other process publishes
		<-ctx.Done()                      // or pass ctx to what takes long
		if errors.Is(context.Cause(ctx), grants.ErrEnded) {
			fmt.Println("stopped: the grant has ended")
		}
	}
	job(context.Background())
	job(context.Background())
	// Output:
	// started
	// stopped: the grant has ended
	// not started: grants: the grant has ended or doesn't exist
}
