// Command guard is an MCP server whose tools need a grant token. When the grant is revoked,
// calls are rejected, calls under way end, and open streams are cut.
//
// Without GRANTEX_API_KEY it shows that, with a Grantex API in memory and an agent.
package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// A config has what depends on the account and on where the server runs.
type config struct {
	API           *grantexapi.Client
	Issuer        string // of the tokens
	JWKS          string // the address of the keys that sign them
	Developer     string // the account's id, in the claim "dev"
	URL           string // of this server's MCP endpoint, in the claim "aud"
	WebhookSecret string // webhooks are off if it's empty
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx); err != nil {
		log.Fatal(err)
	}
}

func start(ctx context.Context) error {
	key := os.Getenv("GRANTEX_API_KEY")
	switch {
	case key == "" && os.Getenv("GUARD_URL") != "":
		return errors.New("guard: GRANTEX_API_KEY is empty; set it, or unset GUARD_URL to run the demo")
	case key == "":
		return demo(ctx, os.Stdout)
	}
	api := strings.TrimRight(cmp.Or(os.Getenv("GRANTEX_API_URL"), "https://api.grantex.dev"), "/")
	l, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), ":8080"))
	if err != nil {
		return err
	}
	log.Printf("listening on %s", l.Addr())
	return run(ctx, l, config{
		API:           &grantexapi.Client{APIKey: grantexhook.Secret(key), BaseURL: api},
		Issuer:        cmp.Or(os.Getenv("GRANTEX_ISSUER"), "https://grantex.dev"),
		JWKS:          api + "/.well-known/jwks.json",
		Developer:     os.Getenv("GRANTEX_DEVELOPER_ID"),
		URL:           os.Getenv("GUARD_URL"),
		WebhookSecret: os.Getenv("GRANTEX_WEBHOOK_SECRET"),
	})
}

// newServer limits how long a client may take to send a request, with a token or without.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:     h,
		ReadTimeout: 10 * time.Second, // of a request; net/http lifts it then
		IdleTimeout: 2 * time.Minute,  // but no WriteTimeout, which would cut streams

		MaxHeaderBytes: 64 << 10, // so a forged token can't make a long line in the log
	}
}

// run serves until ctx ends. It cuts what is open then, since streams don't end by themselves.
func run(ctx context.Context, l net.Listener, c config) error {
	defer l.Close()
	g, err := newGuard(ctx, c)
	if err != nil {
		return err
	}
	h, err := g.handler(c.WebhookSecret)
	if err != nil {
		return err
	}
	if err := g.cache.Sync(ctx); err != nil { // a wrong key is an error now, not for each agent
		return err
	}
	s := newServer(h)
	ended := make(chan error, 1)
	go func() {
		ended <- g.cache.Run(ctx)
		s.Close()
	}()
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return <-ended
}
