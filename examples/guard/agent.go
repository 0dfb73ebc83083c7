package main

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An agent is the demo's MCP client. It's its sessions' HTTP transport too: it adds the
// token to each request, and watches what becomes of it.
type agent struct {
	url, token           string
	calls                atomic.Int64
	rejected, ended, cut chan time.Time // get the first such moment
}

func newAgent(url, token string) *agent {
	return &agent{url: url, token: token,
		rejected: make(chan time.Time, 1), ended: make(chan time.Time, 1), cut: make(chan time.Time, 1)}
}

func (a *agent) connect(ctx context.Context, stream bool) (*mcp.ClientSession, error) {
	return mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1.0.0"}, nil).Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             a.url,
		HTTPClient:           &http.Client{Transport: a},
		DisableStandaloneSSE: !stream,
	}, nil)
}

// loop calls a tool until a call is rejected.
func (a *agent) loop(ctx context.Context, s *mcp.ClientSession) {
	for len(a.rejected) == 0 && ctx.Err() == nil {
		if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "read_note"}); err == nil {
			a.calls.Add(1)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// wait calls a tool that returns only once somebody writes.
func (a *agent) wait(ctx context.Context, s *mcp.ClientSession) {
	s.CallTool(ctx, &mcp.CallToolParams{Name: "wait_for_note"})
	first(a.ended)
}

// RoundTrip implements http.RoundTripper.
func (a *agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := http.DefaultTransport.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusUnauthorized:
		first(a.rejected)
	case r.Method == http.MethodGet:
		resp.Body = &stream{resp.Body, a}
	}
	return resp, nil
}

// A stream is the body of a response to GET.
type stream struct {
	io.ReadCloser
	agent *agent
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		first(s.agent.cut)
	}
	return n, err
}

// first sends the time, unless one has been sent.
func first(moment chan<- time.Time) {
	select {
	case moment <- time.Now():
	default:
	}
}
