package grants

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// runStream reads the live stream until ctx ends. Events reconnects by itself unless a
// retry won't help, for example because the API key was revoked.
func (c *Cache) runStream(ctx context.Context) {
	defer c.connected.Store(false)
	for tries := 1; ; tries++ {
		for body, err := range c.client.Events(ctx) {
			if err == nil {
				tries = 1
			}
			c.hear(body, err)
		}
		c.connected.Store(false)
		if !sleep(ctx, backoff(tries, time.Minute, 15*time.Minute)) {
			return
		}
	}
}

// hear handles what Events yields.
func (c *Cache) hear(body []byte, err error) {
	interrupted, passes := errors.AsType[*grantexapi.Interrupted](err)
	switch {
	case passes && interrupted.Wait == 0: // skipped an event, and yields nil, nil next
	case err != nil:
		c.connected.Store(false)
		c.problem(streaming, err)
	case body == nil: // events may be missing
		c.connected.Store(true)
		c.problem(streaming, nil)
		c.listSoon()
	default:
		ids, others := endedBy(body)
		c.end(ids...)
		if others {
			c.listSoon()
		}
	}
}

// harmless are the types of events that end no grant.
var harmless = []string{
	grantexhook.TypeGrantCreated, grantexhook.TypeTokenIssued, "budget.threshold", "budget.exhausted", "vc.issued",
	"consent_bundle.created", "consent_bundle.synced", "dpdp.consent.created", "dpdp.grievance.filed", "anomaly.detected",
}

// endedBy returns the grants that an event ended, and whether it may have ended others
// that it doesn't name.
func endedBy(body []byte) (ids []string, others bool) {
	var e struct {
		Type string
		Data struct {
			GrantID       string
			Cascade       bool
			RevokedGrants []string // anomaly.auto_revoked
			GrantRevoked  *bool    // dpdp.consent.withdrawn
			GrantsRevoked *int     // dpdp.erasure.completed
			RevokeGrant   *bool    // consent_bundle.revoked
		}
	}
	if json.Unmarshal(body, &e) != nil {
		return nil, true
	}
	d := e.Data
	switch e.Type {
	case grantexhook.TypeGrantRevoked:
		return []string{d.GrantID}, d.Cascade || !valid(d.GrantID)
	case "anomaly.auto_revoked":
		return d.RevokedGrants, d.RevokedGrants == nil || len(d.RevokedGrants) > 0
	case "dpdp.consent.withdrawn":
		return nil, d.GrantRevoked == nil || *d.GrantRevoked
	case "dpdp.erasure.completed":
		return nil, d.GrantsRevoked == nil || *d.GrantsRevoked > 0
	case "consent_bundle.revoked":
		return nil, d.RevokeGrant == nil || *d.RevokeGrant
	}
	return nil, !slices.Contains(harmless, e.Type)
}
