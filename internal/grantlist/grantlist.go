// Package grantlist is how package grants reads long lists of grants. A
// grantexapi.Grant has more fields than it needs, which would be garbage.
package grantlist

import (
	"context"
	"iter"
	"time"
)

// A Grant is the part of a grantexapi.Grant that package grants needs. Its ID has
// memory of its own, so keeping it keeps nothing else alive.
type Grant struct {
	ID          string    `json:"grantId"` // never empty
	DeveloperID string    `json:"developerId"`
	Status      string    `json:"status"` // should be "active", but only the sender promises that
	ExpiresAt   time.Time `json:"expiresAt"`
}

// Active requests the active grants of an account when the loop begins, and yields
// each as soon as it has arrived. Grants that expired are still active, and an ID is
// yielded as often as it's listed. The list was complete if no error came: an error is
// yielded last, with a zero Grant, and is like an error of grantexapi.Client.Grants. A
// loop that wants to give up on a slow list should end ctx. client is a
// *grantexapi.Client. Importing package grantexapi sets Active.
var Active func(ctx context.Context, client any) iter.Seq2[Grant, error]
