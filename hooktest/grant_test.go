package hooktest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// A tree is an API with a root, its child, grandchild and great-grandchild, and a second
// child. All events go to the stream, which published reads.
type tree struct {
	*hooktest.API
	ids    map[string]string // by name
	agents map[string]string
	t      *testing.T
	bodies chan []byte
}

var names = []string{"root", "child", "grandchild", "great-grandchild", "second child"}

func newTree(t *testing.T) *tree {
	a, c := newAPI(t)
	tree := &tree{API: a, ids: map[string]string{}, agents: map[string]string{}, t: t, bodies: make(chan []byte, 100)}
	go func() {
		for body := range c.Events(t.Context()) {
			if body != nil {
				tree.bodies <- body
			}
		}
	}()
	synctest.Wait()
	tree.create("root", "")
	for i := range 3 {
		tree.create(names[i+1], names[i])
	}
	tree.create("second child", "root")
	tree.published()
	return tree
}

func (t *tree) create(name, parent string) {
	g := t.Create(grantexhook.GrantCreated{ParentGrantID: t.ids[parent], Scopes: []string{"read", "write"}})
	t.ids[name], t.agents[name] = g.GrantID, g.AgentID
}

// active returns the names of the grants that the API lists as active, in their order.
func (t *tree) active() string {
	_, list := get(t.t, t.Client(), "GET", "/v1/grants?status=active")
	var active []string
	for _, name := range names {
		status, one := get(t.t, t.Client(), "GET", "/v1/grants/"+t.ids[name])
		require.Equal(t.t, strings.Contains(list, t.ids[name]), status == 200 && strings.Contains(one, `"status":"active"`))
		if strings.Contains(list, t.ids[name]) {
			active = append(active, name)
		}
	}
	return strings.Join(active, ", ")
}

// published returns the events since the last call.
func (t *tree) published() (all []grantexhook.RawEvent) {
	synctest.Wait()
	for len(t.bodies) > 0 {
		var e grantexhook.RawEvent
		require.NoError(t.t, json.Unmarshal(<-t.bodies, &e))
		all = append(all, e)
	}
	return all
}

// TestEndings checks each way in which a grant ends: what is left, and what is published.
func TestEndings(t *testing.T) {
	const everything = "root, child, grandchild, great-grandchild, second child"
	revoke := func(name string) func(*tree) { return func(t *tree) { t.Revoke(t.ids[name]) } }
	revokeBy := func(eventType, name string) func(*tree) {
		return func(t *tree) { t.RevokeBy(eventType, t.ids[name]) }
	}
	tests := []struct {
		name      string
		end       func(*tree)
		active    string
		published string // type and data
	}{
		{"nothing", func(*tree) {}, everything, ""},
		{"root", revoke("root"), "", `grant.revoked {"grantId":"<root>","cascade":true}`},
		{"leaf", revoke("second child"), "root, child, grandchild, great-grandchild", `grant.revoked {"grantId":"<second child>","cascade":false}`},
		{"in the middle", revoke("grandchild"), "root, child, second child", `grant.revoked {"grantId":"<grandchild>","cascade":true}`},
		{"twice", func(t *tree) { revoke("child")(t); revoke("child")(t) }, "root, second child", `grant.revoked {"grantId":"<child>","cascade":true}`},
		{"child, then root", func(t *tree) { revoke("child")(t); revoke("root")(t) }, "",
			`grant.revoked {"grantId":"<child>","cascade":true}; grant.revoked {"grantId":"<root>","cascade":true}`},
		{"over HTTP", func(t *tree) {
			status, _ := get(t.t, t.Client(), "DELETE", "/v1/grants/"+t.ids["child"])
			require.Equal(t.t, 204, status)
		}, "root, second child", `grant.revoked {"grantId":"<child>","cascade":true}`},
		{"as an event", revokeBy("grant.revoked", "root"), "", `grant.revoked {"grantId":"<root>","cascade":true}`},
		{"consent withdrawn", revokeBy("dpdp.consent.withdrawn", "root"), "child, grandchild, great-grandchild, second child",
			`dpdp.consent.withdrawn {"recordId":"crec_*","reason":"withdrawn","grantRevoked":true,"dataDeleted":false}`},
		{"data erased", revokeBy("dpdp.erasure.completed", "child"), "root, grandchild, great-grandchild, second child",
			`dpdp.erasure.completed {"requestId":"ER-2000-*","dataPrincipalId":"user_1","recordsErased":1,"grantsRevoked":1}`},
		{"bundle revoked", revokeBy("consent_bundle.revoked", "root"), "child, grandchild, great-grandchild, second child",
			`consent_bundle.revoked {"bundleId":"bundle_*","revokeGrant":true}`},
		{"anomaly", revokeBy("anomaly.auto_revoked", "grandchild"), "root, child, great-grandchild, second child",
			`anomaly.auto_revoked {"revokedGrants":["<grandchild>"],"anomalyCount":1}`},
		{"agent deleted", func(t *tree) { t.DeleteAgent(t.agents["child"]) }, "root, grandchild, great-grandchild, second child", ""},
		{"below a silent ending", func(t *tree) { revokeBy("anomaly.auto_revoked", "child")(t); t.published(); revoke("root")(t) },
			"grandchild, great-grandchild", `grant.revoked {"grantId":"<root>","cascade":true}`},
		{"nothing but a silent ending below", func(t *tree) {
			revokeBy("anomaly.auto_revoked", "great-grandchild")(t)
			t.published()
			revoke("grandchild")(t)
		}, "root, child, second child", `grant.revoked {"grantId":"<grandchild>","cascade":false}`},
		{"below a deleted agent", func(t *tree) { t.DeleteAgent(t.agents["child"]); revoke("root")(t) },
			"grandchild, great-grandchild", `grant.revoked {"grantId":"<root>","cascade":true}`},
		{"after its agent", func(t *tree) { t.DeleteAgent(t.agents["child"]); revoke("child")(t) },
			"root, grandchild, great-grandchild, second child", ""},
		{"expiry", func(*tree) { time.Sleep(48 * time.Hour) }, everything, ""},
		{"after expiry", func(t *tree) { time.Sleep(48 * time.Hour); revoke("second child")(t) },
			"root, child, grandchild, great-grandchild", `grant.revoked {"grantId":"<second child>","cascade":false}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tree := newTree(t)
				tt.end(tree)
				require.Equal(t, tt.active, tree.active())
				var published []string
				for _, e := range tree.published() {
					published = append(published, e.Type+" "+string(e.Data))
				}
				got := ulid.ReplaceAllString(tree.named(strings.Join(published, "; ")), "*")
				require.Equal(t, tt.published, got)
			})
		})
	}
}

var ulid = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}`)

func (t *tree) named(text string) string {
	for name, id := range t.ids {
		text = strings.ReplaceAll(text, id, "<"+name+">")
	}
	return text
}

var values = regexp.MustCompile(`:(?:"[^"]*"|\d+|true|false|\[(?:"[^"]*",?)*\])`)

// shape returns a body without its values.
func shape(body []byte) string { return values.ReplaceAllString(string(body), ":_") }

// TestEventsLikeReal checks that events have the members of recorded ones, in order.
func TestEventsLikeReal(t *testing.T) {
	recorded, err := os.ReadFile("../grantexapi/testdata/stream-all-types.txt")
	require.NoError(t, err)
	real := map[string]string{} // type to shape
	for line := range strings.Lines(string(recorded)) {
		if body, ok := strings.CutPrefix(line, "data: "); ok {
			eventType := hooktest.Raw(body).EventType()
			real[eventType+fmt.Sprint(strings.Contains(body, "parentGrantId"))] = shape([]byte(strings.TrimSpace(body)))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		tree := newTree(t)
		tree.create("another", "")
		tree.create("delegated", "another")
		tree.Revoke(tree.ids["another"])
		for i, eventType := range []string{"dpdp.consent.withdrawn", "dpdp.erasure.completed", "consent_bundle.revoked", "anomaly.auto_revoked"} {
			tree.RevokeBy(eventType, tree.ids[names[i]])
		}
		synctest.Wait()
		seen := map[string]bool{}
		for len(tree.bodies) > 0 {
			body := <-tree.bodies
			key := hooktest.Raw(body).EventType() + fmt.Sprint(strings.Contains(string(body), "parentGrantId"))
			require.Equal(t, real[key], shape(body))
			seen[key] = true
		}
		require.Len(t, seen, 8)
	})
}

// TestCreate checks the defaults, for a grant and for one that is delegated.
func TestCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		now := time.Now()
		g := a.Create(grantexhook.GrantCreated{DelegationDepth: 7})
		require.Regexp(t, `^grnt_[0-9A-Z]{26}$`, g.GrantID)
		require.Regexp(t, `^ag_[0-9A-Z]{26}$`, g.AgentID)
		want := grantexhook.GrantCreated{
			GrantID: g.GrantID, AgentID: g.AgentID, PrincipalID: "user_1", Scopes: []string{}, ExpiresAt: now.Add(24 * time.Hour).UTC(),
		}
		require.Equal(t, want, g)

		all := grantexhook.GrantCreated{
			GrantID: "grnt_1", AgentID: "ag_1", PrincipalID: "user_2", Scopes: []string{"read"}, ExpiresAt: now.Add(90 * time.Minute).UTC(),
		}
		require.Equal(t, all, a.Create(all))

		child := a.Create(grantexhook.GrantCreated{ParentGrantID: "grnt_1"})
		want = grantexhook.GrantCreated{
			GrantID: child.GrantID, AgentID: child.AgentID, PrincipalID: "user_2", Scopes: []string{"read"},
			ExpiresAt: now.Add(time.Hour).UTC(), ParentGrantID: "grnt_1", DelegationDepth: 1,
		}
		require.Equal(t, want, child)
		require.NotEqual(t, "ag_1", child.AgentID)

		time.Sleep(time.Hour)
		grandchild := a.Create(grantexhook.GrantCreated{ParentGrantID: "grnt_1", Scopes: []string{}, PrincipalID: "user_3"})
		require.Equal(t, all.ExpiresAt, grandchild.ExpiresAt, "no later than the parent")
		require.Equal(t, []string{}, grandchild.Scopes)
		require.Equal(t, "user_3", grandchild.PrincipalID)
	})
}

// TestCreateKeepsItsScopes checks that a grant doesn't share memory with its caller.
func TestCreateKeepsItsScopes(t *testing.T) {
	a, _ := newAPI(t)
	scopes := []string{"read"}
	g := a.Create(grantexhook.GrantCreated{Scopes: scopes})
	scopes[0], g.Scopes[0] = "write", "write"
	_, claims := decode(t, a.Token(g.GrantID, ""))
	require.Contains(t, claims, `"scp":["read"]`)
}

func TestMisuseOfGrants(t *testing.T) {
	tests := []struct {
		name, want string
		call       func(*hooktest.API)
	}{
		{"ID taken", `hooktest: there is a grant "grnt_1" already`, func(a *hooktest.API) { a.Create(grantexhook.GrantCreated{GrantID: "grnt_1"}) }},
		{"unknown parent", `hooktest: there is no grant "x"; use the GrantID that Create returned`, func(a *hooktest.API) { a.Create(grantexhook.GrantCreated{ParentGrantID: "x"}) }},
		{"parent has ended", `hooktest: the grant "grnt_1" has ended, so it can't be delegated`, func(a *hooktest.API) {
			a.RevokeBy("anomaly.auto_revoked", "grnt_1")
			a.Create(grantexhook.GrantCreated{ParentGrantID: "grnt_1"})
		}},
		{"too deep", "has been delegated 3 times, so it can't be delegated again", func(a *hooktest.API) {
			id := "grnt_1"
			for range 4 {
				id = a.Create(grantexhook.GrantCreated{ParentGrantID: id}).GrantID
			}
		}},
		{"revoke unknown", `hooktest: there is no grant "x"`, func(a *hooktest.API) { a.Revoke("x") }},
		{"token of unknown", `hooktest: there is no grant "x"`, func(a *hooktest.API) { a.Token("x", "") }},
		{"unknown agent", `hooktest: there is no agent "x"; use the AgentID that Create returned`, func(a *hooktest.API) { a.DeleteAgent("x") }},
		{"way that doesn't revoke", `hooktest: "grant.created" doesn't revoke a grant; use`, func(a *hooktest.API) { a.RevokeBy("grant.created", "grnt_1") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newAPI(t)
			a.Create(grantexhook.GrantCreated{GrantID: "grnt_1"})
			defer func() {
				require.Contains(t, recover(), tt.want)
				a.Create(grantexhook.GrantCreated{}) // not deadlocked
			}()
			tt.call(a)
		})
	}
}
