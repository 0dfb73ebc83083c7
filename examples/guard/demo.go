package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/hooktest"
)

// demo starts a Grantex API in memory and the server. An agent calls one tool in a loop,
// waits in another, and holds a stream open. Then its grant is revoked.
func demo(ctx context.Context, out io.Writer) error {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	api := hooktest.NewAPI()
	defer api.Close()
	grantex, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return err
	}
	defer grantex.Close()
	go http.Serve(grantex, api)
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return err
	}
	c := config{
		API:       &grantexapi.Client{APIKey: "demo", BaseURL: "http://" + grantex.Addr().String()},
		Issuer:    hooktest.TokenIssuer,
		JWKS:      "http://" + grantex.Addr().String() + "/.well-known/jwks.json",
		Developer: api.DeveloperID,
		URL:       "http://" + l.Addr().String() + "/mcp",
	}
	stopped := make(chan error, 1)
	go func() {
		defer stop() // or the agent would wait for a server that didn't start
		stopped <- run(ctx, l, c)
	}()
	shown := show(ctx, out, api, c.URL)
	stop()
	return errors.Join(shown, <-stopped)
}

// show revokes the grant of an agent at work, and prints how soon it ended the work.
func show(ctx context.Context, out io.Writer, api *hooktest.API, url string) error {
	grant := api.Create(grantexhook.GrantCreated{Scopes: []string{"read"}})
	a := newAgent(url, api.Token(grant.GrantID, url))
	// A session ends whole when a call is rejected, so what else is to end has its own.
	caller, err := a.connect(ctx, false)
	if err != nil {
		return err
	}
	defer caller.Close()
	holder, err := a.connect(ctx, true)
	if err != nil {
		return err
	}
	defer holder.Close()
	go a.loop(ctx, caller)
	go a.wait(ctx, holder)
	time.Sleep(time.Second)

	revoked := time.Now()
	api.Revoke(grant.GrantID)
	fmt.Fprintf(out, "The agent has called read_note %d times. Its grant is revoked.\n", a.calls.Load())
	for _, e := range []struct {
		what string
		at   <-chan time.Time
	}{
		{"its next call is rejected", a.rejected},
		{"its call under way ends", a.ended},
		{"its open stream is cut", a.cut},
	} {
		select {
		case at := <-e.at:
			fmt.Fprintf(out, "%5.1f ms later %s.\n", float64(at.Sub(revoked).Microseconds())/1000, e.what)
		case <-ctx.Done():
			return fmt.Errorf("guard: waiting until %s: %w", e.what, context.Cause(ctx))
		}
	}
	return nil
}
