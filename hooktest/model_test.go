package hooktest_test

// A model for your tests: copy this file and put your own code in the place of grants.

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// grants knows which grants are active, whatever the order in which their events
// arrive. It stands for your database.
type grants struct {
	mu     sync.Mutex
	parent map[string]string // of each grant that was created, "" if it has no parent
	ended  map[string]bool   // each grant that was revoked
	down   bool              // fails once
}

// active reports whether id and all its ancestors were created and not revoked. A
// descendant that ends in a cascade gets no event.
func (g *grants) active(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		parent, created := g.parent[id]
		if !created || g.ended[id] {
			return false
		}
		if parent == "" {
			return true
		}
		id = parent
	}
}

func (g *grants) webhook(t *testing.T, secret string) http.Handler {
	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true})
	if err != nil {
		t.Fatal(err)
	}
	var d grantexhook.Dispatcher
	grantexhook.On(&d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.parent[e.Data.GrantID] = e.Data.ParentGrantID
		return nil
	})
	grantexhook.On(&d, func(_ context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.down {
			g.down = false
			return errors.New("the database is down")
		}
		g.ended[e.Data.GrantID] = true
		return nil
	})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/grantex", v.Middleware(&d))
	return mux
}

// newWebhook returns grants and a Sender that delivers to their webhook.
func newWebhook(t *testing.T) (*grants, hooktest.Sender) {
	const secret = "any text will do in a test"
	g := &grants{parent: map[string]string{}, ended: map[string]bool{}}
	return g, hooktest.Sender{Secret: secret, Handler: g.webhook(t, secret), Path: "/webhooks/grantex"}
}

func TestEventsInAnyOrder(t *testing.T) {
	root := hooktest.NewEvent(grantexhook.GrantCreated{GrantID: "grnt_1"})
	child := hooktest.NewEvent(grantexhook.GrantCreated{GrantID: "grnt_2", ParentGrantID: "grnt_1", DelegationDepth: 1})
	revoked := hooktest.NewEvent(grantexhook.GrantRevoked{GrantID: "grnt_1", Cascade: true})
	tests := []struct {
		name   string
		events []hooktest.Event
		active bool // both grants, in the end
	}{
		{"not revoked", []hooktest.Event{root, child}, true},
		{"child first", []hooktest.Event{child, root}, true},
		{"revoked last", []hooktest.Event{root, child, revoked}, false},
		{"revoked before the child", []hooktest.Event{root, revoked, child}, false},
		{"revoked first", []hooktest.Event{revoked, child, root}, false},
		{"all twice", []hooktest.Event{root, root, revoked, child, revoked, child}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // a bubble, in which waiting for retries takes no time
				g, s := newWebhook(t)
				for _, e := range tt.events {
					if report := s.Deliver(t, e); !report.Delivered() {
						t.Errorf("%s was not delivered:\n%v", e.Type, report)
					}
				}
				for _, id := range []string{"grnt_1", "grnt_2"} {
					if g.active(id) != tt.active {
						t.Errorf("%s: active is %t, want %t", id, !tt.active, tt.active)
					}
				}
			})
		})
	}
}

func TestRetryAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newWebhook(t)
		g.down = true
		report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
		if !report.Delivered() || len(report) != 2 {
			t.Errorf("want a failure and a success, got\n%v", report)
		}
	})
}

func TestStranger(t *testing.T) {
	g, s := newWebhook(t)
	s.Secret, s.Attempts = "another", 1
	report := s.Deliver(t, grantexhook.GrantCreated{GrantID: "grnt_1"})
	if report[0].Status != http.StatusUnauthorized || g.active("grnt_1") {
		t.Errorf("want status 401 and no grant, got\n%v", report)
	}
}
