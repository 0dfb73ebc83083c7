package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"grantex.dev/grantexhook/grantexapi"
)

func deliveriesCommand() command {
	return command{
		name: "deliveries",
		args: "ID",
		min:  1, max: 1,
		about: "List what Grantex has delivered to an endpoint, or is to deliver, the newest first.",
		examples: `grantexhook deliveries wh_01M843FY8CJPK8WASNGA0PFDVS
grantexhook deliveries -status failed -json wh_01M843FY8CJPK8WASNGA0PFDVS | jq -r .eventId`,
		setup: func(a *app, fs *flag.FlagSet) action {
			c := newAccount(a, fs)
			status := fs.String("status", "", "only those with this `STATUS`: pending, delivered or failed")
			return func(ctx context.Context, args []string) error { return c.deliveries(ctx, args[0], *status) }
		},
	}
}

func (c *account) deliveries(ctx context.Context, id, status string) error {
	if !slices.Contains([]string{"", grantexapi.StatusPending, grantexapi.StatusDelivered, grantexapi.StatusFailed}, status) {
		return usageError(fmt.Sprintf("there is no status %q", status), "pending, delivered or failed")
	}
	client, err := c.client(*c.keyFile, nil)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	defer t.Flush() // what came before an error is shown too
	n := 0
	for d, err := range client.Deliveries(ctx, id, status) {
		if err != nil {
			return err
		}
		c.row(t, n, d)
		n++
	}
	if n == 0 {
		c.note("there are no such deliveries")
	}
	return nil
}

// row prints a delivery; the table begins with a header.
func (c *account) row(t *tabwriter.Writer, n int, d grantexapi.Delivery) {
	if c.json {
		writeJSON(c.stdout, d)
		return
	}
	if n == 0 {
		fmt.Fprintln(t, "CREATED\tEVENT\tTYPE\tSTATUS\tATTEMPTS\tLAST ERROR")
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d/%d\t%s\n", d.CreatedAt.UTC().Format(time.RFC3339), printable(d.EventID), printable(d.EventType),
		printable(d.Status), d.Attempts, d.MaxAttempts, printable(d.LastError))
}
