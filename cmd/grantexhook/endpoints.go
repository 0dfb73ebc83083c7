package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// An account is a command that asks the API about the endpoints of one.
type account struct {
	*app
	keyFile *string
	json    bool
}

func newAccount(a *app, fs *flag.FlagSet) *account {
	c := &account{app: a, keyFile: fileFlag(fs, "api-key", "API key")}
	fs.BoolVar(&c.json, "json", false, "print JSON, one object on a line")
	return c
}

func endpointsListCommand() command {
	return command{
		name:     "endpoints list",
		about:    "List the endpoints of the account, the newest first.",
		examples: `grantexhook endpoints list -json | jq -r .id`,
		setup:    func(a *app, fs *flag.FlagSet) action { return newAccount(a, fs).list },
	}
}

func endpointsCreateCommand() command {
	return command{
		name: "endpoints create",
		args: "URL [TYPE...]",
		min:  1, max: -1,
		about: `Create an endpoint and print its secret, which Grantex shows only this once.
Without types it is subscribed to all three. Standard output gets the secret
alone, with -json an object with all of the endpoint.`,
		examples: `GRANTEX_WEBHOOK_SECRET=$(grantexhook endpoints create https://example.com/webhooks/grantex)
grantexhook endpoints create https://example.com/webhooks/grantex grant.revoked > secret.txt`,
		setup: func(a *app, fs *flag.FlagSet) action { return newAccount(a, fs).create },
	}
}

func endpointsDeleteCommand() command {
	return command{
		name: "endpoints delete",
		args: "ID",
		min:  1, max: 1,
		about:    "Delete an endpoint, and drop what is still to be delivered to it.",
		examples: `grantexhook endpoints delete wh_01M843FY8CJPK8WASNGA0PFDVS`,
		setup:    func(a *app, fs *flag.FlagSet) action { return newAccount(a, fs).delete },
	}
}

func endpointsRotateCommand() command {
	return command{
		name: "endpoints rotate",
		args: "ID",
		min:  1, max: 1,
		about: `Create a twin of an endpoint, with a secret of its own.
The old endpoint stays as it is: delete it once the receiver accepts the new
secret and nothing is pending for the old one. Standard output gets the secret
alone, with -json an object with all of the twin.`,
		examples: `NEW=$(grantexhook endpoints rotate wh_01M843FY8CJPK8WASNGA0PFDVS)`,
		setup:    func(a *app, fs *flag.FlagSet) action { return newAccount(a, fs).rotate },
	}
}

func (c *account) list(ctx context.Context, _ []string) error {
	client, err := c.client(*c.keyFile, nil)
	if err != nil {
		return err
	}
	all, err := client.List(ctx)
	if err != nil {
		return err
	}
	if c.json {
		for _, e := range all {
			writeJSON(c.stdout, e) // without a secret, which List does not know
		}
		return nil
	}
	if len(all) == 0 {
		c.note("there are no endpoints")
		return nil
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tCREATED\tEVENTS\tURL")
	for _, e := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(e.ID), e.CreatedAt.UTC().Format(time.RFC3339), printable(strings.Join(e.Events, ",")), printable(e.URL))
	}
	return t.Flush()
}

func (c *account) create(ctx context.Context, args []string) error {
	if _, err := receiverURL(args[0]); err != nil {
		return err
	}
	client, err := c.client(*c.keyFile, nil)
	if err != nil {
		return err
	}
	types := args[1:]
	if len(types) == 0 {
		types = eventTypes()
	}
	e, err := client.Create(ctx, args[0], types...)
	if err != nil {
		return err
	}
	c.note("created %s: %s to %s", printable(e.ID), printable(strings.Join(e.Events, ", ")), printable(e.URL))
	return c.reveal(e)
}

func (c *account) delete(ctx context.Context, args []string) error {
	client, err := c.client(*c.keyFile, nil)
	if err != nil {
		return err
	}
	if err := client.Delete(ctx, args[0]); err != nil {
		return err
	}
	if c.json {
		writeJSON(c.stdout, map[string]string{"deleted": args[0]})
	}
	c.note("deleted %s", printable(args[0]))
	return nil
}

func (c *account) rotate(ctx context.Context, args []string) error {
	client, err := c.client(*c.keyFile, nil)
	if err != nil {
		return err
	}
	twin, err := client.Rotate(ctx, args[0])
	if err != nil {
		return err
	}
	c.note("created %s, a twin of %s, which stays: every event is delivered by both", printable(twin.ID), printable(args[0]))
	if err := c.reveal(twin); err != nil {
		return err
	}
	c.note("next: let the receiver accept both secrets; wait until 'grantexhook deliveries -status pending %s'", printable(args[0]))
	c.note("shows nothing older than the twin; then 'grantexhook endpoints delete %s'", printable(args[0]))
	return nil
}

// A newEndpoint is an endpoint whose secret is shown.
type newEndpoint struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Events    []string  `json:"events"`
	Secret    string    `json:"secret"`
	CreatedAt time.Time `json:"createdAt"`
}

// reveal prints a secret that nobody will show again.
func (c *account) reveal(e *grantexapi.Endpoint) error {
	c.note("this is its secret, which nobody shows again: keep it now")
	if c.json {
		writeJSON(c.stdout, newEndpoint{e.ID, e.URL, e.Events, string(e.Secret), e.CreatedAt})
	} else {
		fmt.Fprintln(c.stdout, string(e.Secret))
	}
	if err := c.stdout.failure(); err != nil {
		return failed(err, "the secret is lost: grantexhook endpoints delete "+printable(e.ID)+", and begin again")
	}
	return nil
}
