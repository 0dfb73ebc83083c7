package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

var grantsCommand = command{
	name: "grants",
	about: `List the account's grants.
Grantex never changes the status of a grant that expires, so it stays active.`,
	examples: `grantexhook grants -status active -principal user_1
grantexhook grants -json | jq -r .grantId`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := new(accountCmd)
		fs.StringVar(&c.query.Status, "status", "", "list only those with this `STATUS`: active or revoked")
		fs.StringVar(&c.query.PrincipalID, "principal", "", "list only what the principal with this `ID` granted")
		fs.StringVar(&c.query.AgentID, "agent", "", "list only what was granted to the agent with this `ID`")
		return c.setup(a, fs, c.grants)
	},
}

var grantCommand = command{
	name: "grant", args: "ID", min: 1, max: 1,
	about: `Report whether a grant is active, and since when it isn't.
Whether it has expired is judged by this machine's clock. The command fails
unless the grant is active.`,
	examples: `grantexhook grant grnt_01M8CB3BF1A2RJ54SNM0FZVHPP`,
	setup:    func(a *app, fs *flag.FlagSet) action { c := new(accountCmd); return c.setup(a, fs, c.grant) },
}

func (c *accountCmd) grants(ctx context.Context, _ []string) error {
	if !slices.Contains([]string{"", "active", "revoked"}, c.query.Status) {
		return usageError(fmt.Sprintf("unknown status %q", c.query.Status), "use active or revoked")
	}
	t := c.table("GRANT\tSTATUS\tEXPIRES\tAGENT\tPRINCIPAL\tSCOPES")
	defer t.Flush() // also shows the grants before an error
	for g, err := range c.client.Grants(ctx, c.query) {
		if err != nil {
			return err
		}
		t.row(g, g.ID, g.Status, when(g.ExpiresAt), g.AgentID, g.PrincipalID, strings.Join(g.Scopes, ","))
	}
	return t.end("there are no matching grants")
}

// A grantState is the result of the command grant.
type grantState struct {
	Active bool              `json:"active"`
	Why    string            `json:"why,omitempty"`   // not
	Grant  *grantexapi.Grant `json:"grant,omitempty"` // unless it's unknown
}

func (c *accountCmd) grant(ctx context.Context, args []string) error {
	g, err := c.client.Grant(ctx, args[0])
	refused, _ := errors.AsType[*grantexapi.Error](err)
	if err != nil && (refused == nil || refused.StatusCode != http.StatusNotFound || refused.Code != "NOT_FOUND") {
		return err
	}
	why := whyEnded(g, time.Now())
	switch {
	case c.json:
		writeJSON(c.stdout, grantState{why == "", why, g})
	case why == "":
		fmt.Fprintf(c.stdout, "active: expires %s\n", when(g.ExpiresAt))
	default:
		fmt.Fprintf(c.stdout, "not active: %s\n", printable(why))
	}
	if why != "" {
		return errVerdict
	}
	return nil
}

// whyEnded returns why a grant isn't active, or "" if it is. The grant is nil if Grantex
// doesn't know it.
func whyEnded(g *grantexapi.Grant, now time.Time) string {
	switch {
	case g == nil:
		return "unknown to this account, or its agent was deleted"
	case g.Status == "revoked":
		return "revoked " + when(g.RevokedAt)
	case g.Status != "active":
		return "its status is " + g.Status
	case now.After(g.ExpiresAt):
		return "expired " + when(g.ExpiresAt)
	}
	return ""
}
