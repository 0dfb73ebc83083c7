// Command grantexhook receives, sends, forwards and verifies Grantex webhooks, and
// manages an account's endpoints, from a shell. It needs no tunnel: forward brings
// the account's events to a server behind NAT.
//
//	grantexhook help
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the process
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
