package main

import (
	"context"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A note is what this server's tools are about.
type note struct {
	mu      sync.Mutex
	text    string
	changed chan struct{} // closed by the next write
}

// A text is what the tools take and return.
type text struct {
	Text string `json:"text"`
}

// addTools adds the tools. Each needs the scope that's in scopes.
func (n *note) addTools(s *mcp.Server) {
	mcp.AddTool(s, &mcp.Tool{Name: "read_note", Description: "Read the note."},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, text, error) {
			now, _ := n.read()
			return nil, text{now}, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "write_note", Description: "Replace the note."},
		func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, text, error) {
			n.write(in.Text)
			return nil, in, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "wait_for_note", Description: "Wait until the note is replaced, and read it."},
		func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, text, error) {
			now, err := n.wait(ctx)
			return nil, text{now}, err
		})
}

func (n *note) read() (now string, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.text, n.changed
}

func (n *note) write(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = text
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// wait may take hours. It ends when ctx does, and so when the caller's grant is revoked.
func (n *note) wait(ctx context.Context) (string, error) {
	_, changed := n.read()
	select {
	case <-changed:
		now, _ := n.read()
		return now, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
