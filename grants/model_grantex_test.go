package grants_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
)

// A truth is one grant as Grantex knows it. Its times count from the beginning of the
// schedule and include suspensions.
type truth struct {
	id, agent   string
	start, rest string // of its JSON, around the status
	children    []*truth
	committed   bool // its token may be signed before that
	early       bool // and be checked before that
	ended       bool
	endedAt     time.Duration
	deleted     bool          // with its agent
	expires     time.Duration // may be before the beginning
}

func (g *truth) active() bool { return g != nil && g.committed && !g.ended }

// A grantex plays Grantex: its grants, the ways in which they end, and the events of
// some of these.
type grantex struct {
	begin     time.Time
	suspended atomic.Int64 // how far the wall clock has gone on while the monotonic one stood still

	mu      sync.Mutex
	grants  []*truth
	byID    map[string]*truth
	streams []*stream
	events  int // so far
}

func newGrantex() *grantex {
	return &grantex{begin: time.Now(), byID: map[string]*truth{}}
}

// now is the time outside, which goes on while a machine is suspended.
func (x *grantex) now() time.Duration {
	return time.Since(x.begin) + time.Duration(x.suspended.Load())
}

// sign makes the id of a grant that will be committed later.
func (x *grantex) sign(rnd *rand.Rand, expires time.Duration) *truth {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := &truth{
		id:      fmt.Sprintf("grnt_%d", len(x.grants)),
		agent:   fmt.Sprintf("ag_%d", rnd.IntN(4)),
		expires: expires,
	}
	g.start = `{"grantId":"` + g.id + `","agentId":"` + g.agent + `","principalId":"p","developerId":"dev_1","scopes":["read"],`
	g.rest = `"issuedAt":"` + x.wall(0) + `","expiresAt":"` + x.wall(g.expires) + `","delegationDepth":0}`
	x.grants = append(x.grants, g)
	x.byID[g.id] = g
	return g
}

func (x *grantex) commit(g, parent *truth) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if parent.active() {
		parent.children = append(parent.children, g)
	}
	g.committed = true
}

func (x *grantex) end(g *truth) {
	g.ended, g.endedAt = true, x.now()
}

// An ending is what the account can hear of grants that ended together.
type ending struct {
	revoked string   // the grant that a webhook names, if there is one
	event   []byte   // on the stream; nil if there is no event
	named   []string // by that event
	others  bool     // that event means that others may have ended too
}

// revoke ends a grant and, through active ones alone, its descendants.
func (x *grantex) revoke(g *truth) ending {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !g.active() {
		return ending{}
	}
	before := x.countEnded()
	x.cascade(g)
	cascade := x.countEnded() > before+1
	event := x.event(grantexhook.TypeGrantRevoked, map[string]any{"grantId": g.id, "cascade": cascade})
	return ending{g.id, event, []string{g.id}, cascade}
}

func (x *grantex) countEnded() (n int) {
	for _, g := range x.grants {
		if g.ended {
			n++
		}
	}
	return n
}

func (x *grantex) cascade(g *truth) {
	x.end(g)
	for _, child := range g.children {
		if child.active() {
			x.cascade(child)
		}
	}
}

// withdraw ends a grant alone, without a grant.revoked.
func (x *grantex) withdraw(rnd *rand.Rand, g *truth) ending {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !g.active() {
		return ending{}
	}
	x.end(g)
	e := x.withdrawal(rnd, g.id)
	e.others = true
	return e
}

// withdrawal returns one of the events that mean that a grant ended. Only an anomaly
// names it.
func (x *grantex) withdrawal(rnd *rand.Rand, id string) ending {
	switch rnd.IntN(4) {
	case 0:
		return ending{event: x.event("dpdp.consent.withdrawn", map[string]any{"recordId": "crec_1", "grantRevoked": true})}
	case 1:
		return ending{event: x.event("dpdp.erasure.completed", map[string]any{"requestId": "ER-1", "recordsErased": 1, "grantsRevoked": 1})}
	case 2:
		return ending{event: x.event("consent_bundle.revoked", map[string]any{"bundleId": "bundle_1", "revokeGrant": true})}
	}
	return ending{event: x.event("anomaly.auto_revoked", map[string]any{"revokedGrants": []string{id}, "anomalyCount": 1}), named: []string{id}}
}

// deleteAgent ends all grants of an agent, without an event.
func (x *grantex) deleteAgent(agent string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.grants {
		if g.agent == agent && g.committed {
			g.deleted = true
			if !g.ended {
				x.end(g)
			}
		}
	}
}

// harmless returns an event that means no ending at all.
func (x *grantex) harmless(rnd *rand.Rand) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch rnd.IntN(9) {
	case 0:
		return x.event("dpdp.consent.withdrawn", map[string]any{"recordId": "crec_1", "grantRevoked": false})
	case 1:
		return x.event("consent_bundle.revoked", map[string]any{"bundleId": "bundle_1", "revokeGrant": false})
	case 2:
		return x.event("a.new.type", map[string]any{})
	case 3:
		return x.event(grantexhook.TypeGrantRevoked, map[string]any{"grantId": ""})
	case 4:
		return x.event(grantexhook.TypeGrantRevoked, nil)
	case 5:
		return []byte(`{"id":"evt_x","type":"grant.rev`)
	case 6:
		return x.event("anomaly.auto_revoked", map[string]any{"revokedGrants": nil})
	case 7:
		return x.event("anomaly.auto_revoked", map[string]any{"revokedGrants": []any{7, ""}})
	}
	return x.event(grantexhook.TypeGrantCreated, map[string]any{"grantId": "grnt_of_another_account"})
}

func (x *grantex) event(kind string, data map[string]any) []byte {
	x.events++
	text, _ := json.Marshal(map[string]any{
		"id":        fmt.Sprintf("evt_%d", x.events),
		"type":      kind,
		"createdAt": x.wall(x.now()),
		"data":      data,
	})
	return text
}

func (x *grantex) wall(at time.Duration) string {
	return x.begin.Add(at).UTC().Format("2006-01-02T15:04:05.000Z")
}

// publish sends an event to the streams that are open.
func (x *grantex) publish(m message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m.text = "data: " + m.text + "\n\n"
	for _, s := range x.streams {
		s.send(m)
	}
}

// A row is a grant as the API shows it.
func (x *grantex) row(g *truth) string {
	if g.ended {
		return g.start + `"status":"revoked","revokedAt":"` + x.wall(g.endedAt) + `",` + g.rest
	}
	return g.start + `"status":"active",` + g.rest
}

// list returns the elements of GET /v1/grants?status=active, and the ids of the active
// grants. A list with all of them is what a proxy may make of it that loses the query.
func (x *grantex) list(all bool) (rows, ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range slices.Backward(x.grants) {
		if g.active() {
			ids = append(ids, g.id)
		}
		if g.active() || all && g.committed && !g.deleted {
			rows = append(rows, x.row(g))
		}
	}
	return rows, ids
}

// grant answers GET /v1/grants/:id.
func (x *grantex) grant(id string) (status int, body string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.byID[id]
	if g == nil || !g.committed || g.deleted {
		return 404, `{"message":"Grant not found","code":"NOT_FOUND","requestId":"r"}`
	}
	return 200, x.row(g)
}

// isEarly reports whether a Cache may have heard that a grant doesn't exist.
func (x *grantex) isEarly(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byID[id].early
}

// longExpired reports whether a grant is about to be one that a Cache forgets.
func (x *grantex) longExpired(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.byID[id]
	return g != nil && x.now()-g.expires > 9*time.Minute
}

// isActive reports what Grantex holds true at this moment.
func (x *grantex) isActive(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byID[id].active()
}

// exists reports whether a grant is or was active.
func (x *grantex) exists(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.byID[id]
	return g != nil && g.committed
}

// isUnknown reports whether the API may have said of a grant that it doesn't exist.
func (x *grantex) isUnknown(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.byID[id]
	return g != nil && (g.deleted || g.early)
}

// hasEnded reports since when a grant has ended.
func (x *grantex) hasEnded(id string) (time.Duration, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g := x.byID[id]; g != nil && g.ended {
		return g.endedAt, true
	}
	return 0, false
}

// ids returns the ids of all grants for which ok.
func (x *grantex) ids(ok func(*truth) bool) (ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.grants {
		if ok(g) {
			ids = append(ids, g.id)
		}
	}
	return ids
}

func (x *grantex) some(rnd *rand.Rand, ok func(*truth) bool) *truth {
	ids := x.ids(ok)
	if len(ids) == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byID[ids[rnd.IntN(len(ids))]]
}

func isActive(g *truth) bool { return g.active() }
func isEnded(g *truth) bool  { return g.ended }

// String lists the grants for a failed schedule.
func (x *grantex) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for _, g := range x.grants {
		fmt.Fprintf(&b, "\n%s of %s: committed %t, expires %v", g.id, g.agent, g.committed, g.expires)
		if g.ended {
			fmt.Fprintf(&b, ", ended at %v (deleted %t)", g.endedAt, g.deleted)
		}
	}
	return b.String()
}
