package grants_test

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// Records is what a service holds for grants. Yours are rows in a table.
type Records struct {
	mu     sync.Mutex
	active map[string]bool // false once the grant has ended
	ended  chan string     // for the example's output
}

// Active returns the IDs of the grants that haven't ended.
func (r *Records) Active() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, active := range r.active {
		if active {
			ids = append(ids, id)
		}
	}
	return ids
}

// End ends grants. It's what the handler of grant.revoked does.
func (r *Records) End(_ context.Context, grantIDs []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range grantIDs {
		r.active[id] = false
		r.ended <- id
	}
	return nil
}

// Add adds a grant unless it's known: one that has ended must stay ended. It's what
// the handler of grant.created does.
func (r *Records) Add(grantID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.active[grantID]; !known {
		r.active[grantID] = true
		fmt.Println("added", grantID)
	}
}

// After an outage in which events were lost, Watch and Sync find the grants that
// ended, and Client.Grants the new ones.
func Example_recovery() {
	api := hooktest.NewAPI() // in place of Grantex
	defer api.Close()
	client := &grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}
	for _, id := range []string{"grnt_kept", "grnt_revoked"} {
		api.Create(grantexhook.GrantCreated{GrantID: id})
	}
	records := &Records{
		active: map[string]bool{"grnt_kept": true, "grnt_revoked": true},
		ended:  make(chan string, 1),
	}

	// These events were lost.
	api.Revoke("grnt_revoked")
	api.Create(grantexhook.GrantCreated{GrantID: "grnt_new"})

	ctx, stop := context.WithCancel(context.Background())
	stopped, err := catchUp(ctx, client, records)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ended", <-records.ended)
	stop() // when the service shuts down
	<-stopped
	// Output:
	// added grnt_new
	// ended grnt_revoked
}

func catchUp(ctx context.Context, client *grantexapi.Client, records *Records) (stopped <-chan struct{}, err error) {
	cache, err := grants.New(client, &grants.Options{Ended: records.End})
	if err != nil {
		return nil, err
	}
	cache.Watch(records.Active()...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := cache.Run(ctx); err != nil {
			log.Print(err)
		}
	}()
	if err := cache.Sync(ctx); err != nil {
		return done, err
	}
	for g, err := range client.Grants(ctx, grantexapi.GrantQuery{Status: "active"}) {
		if err != nil {
			return done, err
		}
		if g.ExpiresAt.After(time.Now()) { // Grantex lists expired grants as active
			records.Add(g.ID)
		}
	}
	return done, nil
}
