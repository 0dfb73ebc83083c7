package hooktest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

const (
	statusActive  = "active"
	statusRevoked = "revoked"

	// maxDepth is how often Grantex lets a grant be delegated.
	maxDepth = 3
)

// A grant has the fields of the API's responses, in their order. DelegationDepth stays
// 0, since the real API doesn't fill it in. An API's mu guards all grants.
type grant struct {
	ID              string     `json:"grantId"`
	AgentID         string     `json:"agentId"`
	PrincipalID     string     `json:"principalId"`
	DeveloperID     string     `json:"developerId"`
	Scopes          []string   `json:"scopes"`
	Status          string     `json:"status"`
	IssuedAt        time.Time  `json:"issuedAt"`
	ExpiresAt       time.Time  `json:"expiresAt"`
	RevokedAt       *time.Time `json:"revokedAt,omitempty"`
	DelegationDepth int        `json:"delegationDepth"`

	text     []byte // the grant as JSON
	tokenID  string
	parent   *grant
	depth    int
	children []*grant
	deleted  bool // with its agent
}

func (g *grant) active() bool { return g.Status == statusActive && !g.deleted }

// Create creates a grant, publishes grant.created and token.issued, and returns the
// grant with all fields set. Empty fields get defaults: new IDs, the principal "user_1",
// no scopes, and 24 hours until it expires.
//
// With a ParentGrantID, that grant is delegated. Then the defaults for PrincipalID and
// Scopes are the parent's, and it expires in an hour, or with the parent if that's
// earlier. DelegationDepth is always computed.
//
// Create panics if the GrantID is taken, or if the parent is unknown, has ended or has
// been delegated three times already.
func (a *API) Create(c grantexhook.GrantCreated) grantexhook.GrantCreated {
	g := a.insert(&c)
	a.publish(c.EventType(), c)
	issued := grantexhook.TokenIssued{
		TokenID: g.tokenID, GrantID: c.GrantID, AgentID: c.AgentID, PrincipalID: c.PrincipalID, Scopes: c.Scopes, ExpiresAt: c.ExpiresAt,
	}
	a.publish(issued.EventType(), issued)
	return c
}

func (a *API) insert(c *grantexhook.GrantCreated) *grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	parent := a.parent(c.ParentGrantID)
	c.GrantID = cmp.Or(c.GrantID, sender.NewID("grnt_", now))
	if a.grants[c.GrantID] != nil {
		panic(fmt.Sprintf("hooktest: there is a grant %q already; Grantex never uses an ID twice", c.GrantID))
	}
	c.AgentID = cmp.Or(c.AgentID, sender.NewID("ag_", now))
	fillFrom(c, parent, now)
	g := &grant{
		ID: c.GrantID, AgentID: c.AgentID, PrincipalID: c.PrincipalID, DeveloperID: a.DeveloperID, Scopes: slices.Clone(c.Scopes),
		Status: statusActive, IssuedAt: now, ExpiresAt: c.ExpiresAt,
		tokenID: sender.NewID("tok_", now), parent: parent, depth: c.DelegationDepth,
	}
	if parent != nil {
		parent.children = append(parent.children, g)
	}
	g.text = mustEncode(g)
	a.grants[g.ID] = g
	a.issued = append(a.issued, g)
	return g
}

// fillFrom fills in what a grant has from its parent, which is nil unless it's delegated.
func fillFrom(c *grantexhook.GrantCreated, parent *grant, now time.Time) {
	c.DelegationDepth = 0
	expiresAt := now.Add(24 * time.Hour)
	if parent != nil {
		c.DelegationDepth = parent.depth + 1
		c.PrincipalID = cmp.Or(c.PrincipalID, parent.PrincipalID)
		if c.Scopes == nil {
			c.Scopes = parent.Scopes
		}
		if expiresAt = now.Add(time.Hour); parent.ExpiresAt.Before(expiresAt) {
			expiresAt = parent.ExpiresAt
		}
	}
	c.PrincipalID = cmp.Or(c.PrincipalID, "user_1")
	c.Scopes = append([]string{}, c.Scopes...)
	if c.ExpiresAt.IsZero() {
		c.ExpiresAt = expiresAt
	}
	c.ExpiresAt = c.ExpiresAt.UTC().Truncate(time.Millisecond)
}

// parent returns the grant to delegate, or nil if the ID is empty.
func (a *API) parent(id string) *grant {
	if id == "" {
		return nil
	}
	switch g := a.known(id); {
	case !g.active():
		panic(fmt.Sprintf("hooktest: the grant %q has ended, so it can't be delegated", id))
	case g.depth == maxDepth:
		panic(fmt.Sprintf("hooktest: the grant %q has been delegated %d times, so it can't be delegated again", id, maxDepth))
	default:
		return g
	}
}

func (a *API) grant(id string) *grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known(id)
}

// known returns a grant, or panics if there never was one with this ID.
func (a *API) known(id string) *grant {
	g := a.grants[id]
	if g == nil {
		panic(fmt.Sprintf("hooktest: there is no grant %q; use the GrantID that Create returned", id))
	}
	return g
}

func (a *API) listGrants(r *http.Request) (int, any) {
	q := r.URL.Query()
	list := []byte(`{"grants":[`)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range slices.Backward(a.issued) {
		if g.deleted || !matches(q, "status", g.Status) || !matches(q, "agentId", g.AgentID) || !matches(q, "principalId", g.PrincipalID) {
			continue
		}
		if list[len(list)-1] != '[' {
			list = append(list, ',')
		}
		list = append(list, g.text...)
	}
	return http.StatusOK, append(list, "]}"...)
}

// matches reports whether a filter lets a value pass. A filter that is there twice, or
// empty, lets nothing pass.
func matches(q url.Values, name, value string) bool {
	want, filtered := q[name]
	return !filtered || len(want) == 1 && want[0] == value
}

func (a *API) getGrant(r *http.Request) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.grants[r.PathValue("id")]; g != nil && !g.deleted {
		return http.StatusOK, g.text
	}
	return errNotFound("Grant not found")
}

func (a *API) deleteGrant(r *http.Request) (int, any) {
	id := r.PathValue("id")
	if a.revoke(grantexhook.TypeGrantRevoked, id) {
		return http.StatusNoContent, nil
	}
	return errNotFound("Grant not found or already revoked")
}
