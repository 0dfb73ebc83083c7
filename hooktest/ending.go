package hooktest

import (
	"fmt"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// endings returns the event of each way in which a grant can be revoked.
var endings = map[string]func(g *grant, cascade bool) any{
	grantexhook.TypeGrantRevoked: func(g *grant, cascade bool) any {
		return grantexhook.GrantRevoked{GrantID: g.ID, Cascade: cascade}
	},
	"dpdp.consent.withdrawn": func(*grant, bool) any {
		return struct {
			RecordID     string `json:"recordId"`
			Reason       string `json:"reason"`
			GrantRevoked bool   `json:"grantRevoked"`
			DataDeleted  bool   `json:"dataDeleted"`
		}{sender.NewID("crec_", time.Now()), "withdrawn", true, false}
	},
	"dpdp.erasure.completed": func(g *grant, _ bool) any {
		return struct {
			RequestID       string `json:"requestId"`
			DataPrincipalID string `json:"dataPrincipalId"`
			RecordsErased   int    `json:"recordsErased"`
			GrantsRevoked   int    `json:"grantsRevoked"`
		}{sender.NewID(time.Now().UTC().Format("ER-2006-"), time.Now()), g.PrincipalID, 1, 1}
	},
	"consent_bundle.revoked": func(*grant, bool) any {
		return struct {
			BundleID    string `json:"bundleId"`
			RevokeGrant bool   `json:"revokeGrant"`
		}{sender.NewID("bundle_", time.Now()), true}
	},
	"anomaly.auto_revoked": func(g *grant, _ bool) any {
		return struct {
			RevokedGrants []string `json:"revokedGrants"`
			AnomalyCount  int      `json:"anomalyCount"`
		}{[]string{g.ID}, 1}
	},
}

// Revoke revokes a grant as the API's DELETE does, together with the grants delegated
// from it. It publishes one grant.revoked, whose Cascade reports whether any of those
// ended with it. As in Grantex, grants below one that has already ended stay active.
// It does nothing if the grant has already ended.
func (a *API) Revoke(grantID string) { a.RevokeBy(grantexhook.TypeGrantRevoked, grantID) }

// RevokeBy revokes a grant in one of the ways that publish another event instead of
// grant.revoked. Grants delegated from it stay active. Grantex sends these only to streams,
// and only the last of them has the grant's ID:
//
//   - dpdp.consent.withdrawn: the principal withdrew consent
//   - dpdp.erasure.completed: a principal's data was erased
//   - consent_bundle.revoked: the grant's consent bundle was revoked
//   - anomaly.auto_revoked: Grantex itself revoked the grant
//
// With grant.revoked it's the same as Revoke. It panics if eventType is anything else.
func (a *API) RevokeBy(eventType, grantID string) {
	if endings[eventType] == nil {
		panic(fmt.Sprintf("hooktest: %q doesn't revoke a grant; use grant.revoked or a type that RevokeBy lists", eventType))
	}
	a.grant(grantID)
	a.revoke(eventType, grantID)
}

// revoke reports whether the grant was active. The event is published after the grant
// has ended.
func (a *API) revoke(eventType, id string) bool {
	g, cascade := a.markRevoked(id, eventType == grantexhook.TypeGrantRevoked)
	if g == nil {
		return false
	}
	a.publish(eventType, endings[eventType](g, cascade))
	return true
}

// markRevoked returns the grant, or nil if it isn't active, and whether others were
// revoked with it.
func (a *API) markRevoked(id string, cascade bool) (*grant, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.grants[id]
	if g == nil || !g.active() {
		return nil, false
	}
	return g, g.revoke(time.Now(), cascade) > 1
}

// revoke returns how many grants it revoked. A cascade follows active children alone.
func (g *grant) revoke(at time.Time, cascade bool) int {
	g.Status, g.RevokedAt = statusRevoked, &at
	g.text = mustEncode(g)
	n := 1
	for _, child := range g.children {
		if cascade && child.active() {
			n += child.revoke(at, cascade)
		}
	}
	return n
}

// DeleteAgent deletes an agent. From then on, the API knows none of its grants. Grantex
// publishes no event, and grants delegated to other agents stay active. It panics if no
// grant has this AgentID.
func (a *API) DeleteAgent(agentID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := false
	for _, g := range a.issued {
		if g.AgentID == agentID {
			g.deleted, found = true, true
		}
	}
	if !found {
		panic(fmt.Sprintf("hooktest: there is no agent %q; use the AgentID that Create returned", agentID))
	}
}
