package grantexapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"time"

	"grantex.dev/grantexhook/internal/grantlist"
)

// A Grant is what a principal allows an agent to do, as the API describes it. The API
// doesn't report the parent of a delegated grant.
type Grant struct {
	ID          string    `json:"grantId"`
	AgentID     string    `json:"agentId"`
	PrincipalID string    `json:"principalId"`
	DeveloperID string    `json:"developerId"` // the account
	Scopes      []string  `json:"scopes"`
	Status      string    `json:"status"` // "active" or "revoked"; a grant that expired stays "active"
	IssuedAt    time.Time `json:"issuedAt"`
	ExpiresAt   time.Time `json:"expiresAt"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"` // zero if it wasn't revoked
}

// A GrantQuery selects grants that have all the values of its fields that aren't empty.
// The zero value selects all grants.
type GrantQuery struct {
	Status      string // "active" or "revoked"
	AgentID     string
	PrincipalID string
}

// Grants returns the account's grants. The API lists them in a single response, which
// has about 320 bytes for each grant. Grants requests it when the loop begins, and
// yields each grant as soon as it has arrived, so the loop never holds more than one.
// The grants of a deleted agent are not listed. An empty sequence means there were no
// grants.
//
// The sequence ends with the first error, which is yielded with a zero Grant. Only
// without an error was the list complete. The loop shouldn't act on what's missing from
// a list that broke off. A response that isn't the expected JSON, or that ends early, is
// an error, and so is a grant of more than 1 MiB.
//
// ctx should bound the loop, since the list may be long and the connection stays open
// while your code handles a grant. If HTTPClient is nil, Grants also gives up when the
// API sends nothing for 30 seconds. If you set HTTPClient, its Timeout bounds the
// whole loop.
func (c *Client) Grants(ctx context.Context, q GrantQuery) iter.Seq2[Grant, error] {
	return list(ctx, c, q, Grant.complete)
}

// Grant returns a grant. If the grant doesn't exist, belongs to another account, or
// belongs to an agent that was deleted, the error is an [*Error] with StatusCode 404 and
// Code "NOT_FOUND". Look at both: a wrong BaseURL or a proxy can cause a 404 too, but
// without that Code. A grant that was revoked is returned, with its Status and RevokedAt.
func (c *Client) Grant(ctx context.Context, grantID string) (*Grant, error) {
	path, err := idPath("/v1/grants/", "grant", grantID)
	if err != nil {
		return nil, err
	}
	g, err := call(ctx, c, http.MethodGet, path, nil, func(g Grant) bool {
		return g.complete() && g.ID == grantID // a cache may have mixed up two responses
	})
	if err != nil {
		return nil, err
	}
	return &g, nil
}

func (g Grant) complete() bool { return g.ID != "" && g.Status != "" }

func (q GrantQuery) path() (string, error) {
	if !slices.Contains([]string{"", "active", "revoked"}, q.Status) { // the API would return an empty list
		return "", fmt.Errorf(`grantexapi: unknown grant status %q; use "active", "revoked", or "" for all`, q.Status)
	}
	query := url.Values{}
	for name, value := range map[string]string{"status": q.Status, "agentId": q.AgentID, "principalId": q.PrincipalID} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(query) == 0 {
		return "/v1/grants", nil
	}
	return "/v1/grants?" + query.Encode(), nil
}

func init() {
	grantlist.Active = func(ctx context.Context, client any) iter.Seq2[grantlist.Grant, error] {
		return list(ctx, client.(*Client), GrantQuery{Status: "active"}, func(g grantlist.Grant) bool {
			return g.ID != "" && g.Status != ""
		})
	}
}
