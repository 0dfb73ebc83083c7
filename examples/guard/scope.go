package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// scopes are what a token needs to call each tool. A tool that isn't here can't be called.
var scopes = map[string]string{
	"read_note":     "read",
	"wait_for_note": "read",
	"write_note":    "write",
}

// methods need no scope. One that isn't here, for example to read a resource or a prompt,
// can't be called until you decide which scope it needs.
var methods = []string{"initialize", "ping", "tools/list", "server/discover", "logging/setLevel", "subscriptions/listen"}

// allowed reports whether a token has the scope that a call of MCP needs.
func allowed(token *auth.TokenInfo, method string, req mcp.Request) bool {
	if call, ok := req.(*mcp.CallToolRequest); ok {
		return mayCall(token, call.Params.Name)
	}
	return slices.Contains(methods, method) || strings.HasPrefix(method, "notifications/")
}

// mayCall reports whether a token has the scope that a tool needs.
func mayCall(token *auth.TokenInfo, tool string) bool {
	scope, known := scopes[tool]
	return known && slices.Contains(token.Scopes, scope)
}

// requireScope rejects a call with 403 as RFC 6750 says, and a client can then ask for the
// scope. It's a courtesy: guard.method decides, since it sees what the SDK has parsed.
func requireScope(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mcp.DefaultMaxRequestBodyBytes))
		if err != nil {
			status := http.StatusBadRequest
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, http.StatusText(status), status)
			return
		}
		token, tool := auth.TokenInfoFromContext(r.Context()), toolCalled(body)
		if scope := scopes[tool]; scope != "" && !mayCall(token, tool) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, scope))
			http.Error(w, "insufficient scope", http.StatusForbidden)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// toolCalled returns the name of the tool that a request calls, or "".
func toolCalled(body []byte) string {
	message, err := jsonrpc.DecodeMessage(body)
	if err != nil {
		return ""
	}
	call, ok := message.(*jsonrpc.Request)
	if !ok || call.Method != "tools/call" {
		return ""
	}
	var params struct{ Name string }
	if json.Unmarshal(call.Params, &params) != nil {
		return ""
	}
	return params.Name
}
