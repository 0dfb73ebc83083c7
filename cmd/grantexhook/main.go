// Command grantexhook receives, sends, forwards and checks the webhooks of
// Grantex, and manages the endpoints of an account, from a shell. It needs no
// tunnel: forward brings the events of the account to a server behind NAT.
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
	context.AfterFunc(ctx, stop) // a second signal ends what does not heed the first
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
