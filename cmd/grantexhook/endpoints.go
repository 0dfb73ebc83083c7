package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

// An accountCmd is one of the commands that call the API.
type accountCmd struct {
	*app
	json   bool
	status string
	query  grantexapi.GrantQuery
	client *grantexapi.Client
}

// setup defines the flags that these commands share.
func (c *accountCmd) setup(a *app, fs *flag.FlagSet, act action) action {
	c.app = a
	keyFile := fileFlag(fs, "api-key", "API key")
	fs.BoolVar(&c.json, "json", false, "print JSON, one object per line")
	return func(ctx context.Context, args []string) (err error) {
		if c.client, err = c.api(*keyFile); err != nil {
			return err
		}
		return act(ctx, args)
	}
}

var endpointsListCommand = command{
	name:     "endpoints list",
	about:    "List the account's endpoints, newest first.",
	examples: `grantexhook endpoints list -json | jq -r .id`,
	setup:    func(a *app, fs *flag.FlagSet) action { c := new(accountCmd); return c.setup(a, fs, c.list) },
}

var endpointsCreateCommand = command{
	name: "endpoints create", args: "URL [TYPE...]", min: 1, max: -1,
	about: `Create an endpoint and print its secret, which Grantex shows only this once.
Without types it's subscribed to all three. Standard output gets only the
secret, or the whole endpoint with -json.`,
	examples: `GRANTEX_WEBHOOK_SECRET=$(grantexhook endpoints create https://example.com/webhooks/grantex)
grantexhook endpoints create https://example.com/webhooks/grantex grant.revoked > secret.txt`,
	setup: func(a *app, fs *flag.FlagSet) action { c := new(accountCmd); return c.setup(a, fs, c.create) },
}

var endpointsDeleteCommand = command{
	name: "endpoints delete", args: "ID", min: 1, max: 1,
	about:    "Delete an endpoint and drop its pending deliveries.",
	examples: `grantexhook endpoints delete wh_01M843FY8CJPK8WASNGA0PFDVS`,
	setup:    func(a *app, fs *flag.FlagSet) action { c := new(accountCmd); return c.setup(a, fs, c.delete) },
}

var endpointsRotateCommand = command{
	name: "endpoints rotate", args: "ID", min: 1, max: 1,
	about: `Create a twin of an endpoint, with a new secret.
The old endpoint stays as it is. Delete it once the receiver accepts the new
secret and the old one has no pending deliveries. Standard output gets only the
secret, or the whole twin with -json.`,
	examples: `NEW=$(grantexhook endpoints rotate wh_01M843FY8CJPK8WASNGA0PFDVS)`,
	setup:    func(a *app, fs *flag.FlagSet) action { c := new(accountCmd); return c.setup(a, fs, c.rotate) },
}

func (c *accountCmd) list(ctx context.Context, _ []string) error {
	all, err := c.client.List(ctx)
	if err != nil {
		return err
	}
	t := c.table("ID\tCREATED\tEVENTS\tURL")
	for _, e := range all {
		t.row(e, e.ID, when(e.CreatedAt), strings.Join(e.Events, ","), e.URL) // List returns no secret
	}
	return t.end("there are no endpoints")
}

func (c *accountCmd) create(ctx context.Context, args []string) error {
	if _, err := receiverURL(args[0]); err != nil {
		return err
	}
	types := args[1:]
	if len(types) == 0 {
		types = eventTypes()
	}
	e, err := c.client.Create(ctx, args[0], types...)
	if err != nil {
		return err
	}
	c.note("created %s: %s to %s", printable(e.ID), printable(strings.Join(e.Events, ", ")), printable(e.URL))
	return c.reveal(e)
}

func (c *accountCmd) delete(ctx context.Context, args []string) error {
	if err := c.client.Delete(ctx, args[0]); err != nil {
		return err
	}
	if c.json {
		writeJSON(c.stdout, map[string]string{"deleted": args[0]})
	}
	c.note("deleted %s", printable(args[0]))
	return nil
}

func (c *accountCmd) rotate(ctx context.Context, args []string) error {
	twin, err := c.client.Rotate(ctx, args[0])
	if err != nil {
		return err
	}
	c.note("created %s, a twin of %s; both deliver every event until you delete the old one", printable(twin.ID), printable(args[0]))
	if err := c.reveal(twin); err != nil {
		return err
	}
	c.note("next: make the receiver accept both secrets; wait until 'grantexhook deliveries -status pending %s'", printable(args[0]))
	c.note("shows no delivery older than the twin; then run 'grantexhook endpoints delete %s'", printable(args[0]))
	return nil
}

// reveal prints a secret that can't be retrieved again.
func (c *accountCmd) reveal(e *grantexapi.Endpoint) error {
	c.note("its secret is shown only this once: save it now")
	if c.json {
		writeJSON(c.stdout, struct {
			grantexapi.Endpoint
			Secret string `json:"secret"` // in place of the one that is redacted
		}{*e, string(e.Secret)})
	} else {
		fmt.Fprintln(c.stdout, printable(string(e.Secret)))
	}
	if err := c.stdout.failure(); err != nil {
		return failed(err, "the secret is lost: run 'grantexhook endpoints delete "+printable(e.ID)+"' and start over")
	}
	return nil
}

var deliveriesCommand = command{
	name: "deliveries", args: "ID", min: 1, max: 1,
	about: `List an endpoint's deliveries, past and pending, newest first.
When the API limits calls, the command waits as long as the API asks, and then
continues.`,
	examples: `grantexhook deliveries wh_01M843FY8CJPK8WASNGA0PFDVS
grantexhook deliveries -status failed -json wh_01M843FY8CJPK8WASNGA0PFDVS | jq -r .eventId`,
	setup: func(a *app, fs *flag.FlagSet) action {
		c := new(accountCmd)
		fs.StringVar(&c.status, "status", "", "list only those with this `STATUS`: pending, delivered or failed")
		return c.setup(a, fs, c.deliveries)
	},
}

const (
	maxTries = 5                // at one page of deliveries
	maxPause = 15 * time.Minute // between them; Grantex asks for a minute
)

func (c *accountCmd) deliveries(ctx context.Context, args []string) error {
	if !slices.Contains([]string{"", grantexapi.StatusPending, grantexapi.StatusDelivered, grantexapi.StatusFailed}, c.status) {
		return usageError(fmt.Sprintf("unknown status %q", c.status), "use pending, delivered or failed")
	}
	t := c.table("CREATED\tEVENT\tTYPE\tSTATUS\tATTEMPTS\tLAST ERROR")
	defer t.Flush() // also shows the deliveries before an error
	tries := 0
	for d, err := range c.client.Deliveries(ctx, args[0], c.status) {
		if err == nil {
			t.row(d, when(d.CreatedAt), d.EventID, d.EventType, d.Status, fmt.Sprintf("%d/%d", d.Attempts, d.MaxAttempts), d.LastError)
			tries = 0
			continue
		}
		if tries++; tries == maxTries || !c.pause(ctx, err) {
			return err
		}
	}
	return cmp.Or(t.end("there are no matching deliveries"), ctx.Err())
}

// pause waits until a call that failed may succeed. It reports whether a retry makes
// sense.
func (c *accountCmd) pause(ctx context.Context, err error) bool {
	e, ok := errors.AsType[*grantexapi.Error](err)
	if !ok || e.StatusCode < 500 && !slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, e.StatusCode) {
		return false
	}
	wait := min(cmp.Or(e.RetryAfter, 5*time.Second), maxPause)
	c.note("%s; continuing in %v", oneLine(err.Error()), wait.Round(time.Second))
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// A table prints rows for people, or values for scripts.
type table struct {
	*tabwriter.Writer
	cmd    *accountCmd
	header string
	n      int
}

func (c *accountCmd) table(header string) *table {
	return &table{Writer: tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0), cmd: c, header: header}
}

// row prints v as JSON, or else its cells. A long list appears in parts.
func (t *table) row(v any, cells ...string) {
	if t.n++; t.cmd.json {
		writeJSON(t.cmd.stdout, v)
		return
	}
	if t.n == 1 {
		fmt.Fprintln(t, t.header)
	}
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
	if t.n%100 == 0 {
		t.Flush()
	}
}

// end ends a table whose list was complete.
func (t *table) end(none string) error {
	if t.n == 0 {
		t.cmd.note("%s", none)
	}
	return t.Flush()
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }
