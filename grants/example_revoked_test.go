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

// A webhook ends a grant. The first attempt fails with Ended, so Grantex retries it, but
// no check succeeds meanwhile.
func ExampleCache_Revoked() {
	api := hooktest.NewAPI() // in place of Grantex
	defer api.Close()
	attempts := 0
	endSessions := func(_ context.Context, grantIDs []string) error {
		if attempts++; attempts == 1 {
			return errors.New("the database is down")
		}
		fmt.Println("ended the sessions of", grantIDs)
		return nil
	}
	cache, err := grants.New(&grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}, &grants.Options{Ended: endSessions})
	if err != nil {
		log.Fatal(err)
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, cache.Revoked)

	ctx := context.Background()
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_1"})
	fmt.Println("check:", cache.Check(ctx, "grnt_1"))
	body := []byte(`{"id":"evt_1","type":"grant.revoked","createdAt":"2026-11-26T16:31:57.619Z","data":{"grantId":"grnt_1","cascade":false}}`)
	fmt.Println("first attempt:", d.Dispatch(ctx, body))
	fmt.Println("check:", cache.Check(ctx, "grnt_1"))
	fmt.Println("second attempt:", d.Dispatch(ctx, body))
	// Output:
	// check: <nil>
	// first attempt: the database is down
	// check: grants: the grant has ended or doesn't exist
	// ended the sessions of [grnt_1]
	// second attempt: <nil>
}
