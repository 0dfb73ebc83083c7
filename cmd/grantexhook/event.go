package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// A head is an event without its data.
type head struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// eventTypes returns what an endpoint can subscribe to.
func eventTypes() []string {
	return []string{grantexhook.TypeGrantCreated, grantexhook.TypeGrantRevoked, grantexhook.TypeTokenIssued}
}

// samples make the data of sample events.
var samples = map[string]func(time.Time) any{
	grantexhook.TypeGrantCreated: func(at time.Time) any {
		return grantexhook.GrantCreated{GrantID: sender.NewID("grnt_", at), AgentID: sender.NewID("ag_", at), PrincipalID: "user_sample",
			Scopes: []string{"calendar:read", "email:send"}, ExpiresAt: at.Add(24 * time.Hour)}
	},
	grantexhook.TypeGrantRevoked: func(at time.Time) any { return grantexhook.GrantRevoked{GrantID: sender.NewID("grnt_", at)} },
	grantexhook.TypeTokenIssued: func(at time.Time) any {
		return grantexhook.TokenIssued{TokenID: sender.NewID("tok_", at), GrantID: sender.NewID("grnt_", at), AgentID: sender.NewID("ag_", at),
			PrincipalID: "user_sample", Scopes: []string{"calendar:read"}, ExpiresAt: at.Add(time.Hour)}
	},
}

// jsonLine returns body on one line, byte for byte unless it has several lines.
func jsonLine(body []byte) []byte {
	var line bytes.Buffer
	if !bytes.ContainsAny(body, "\r\n") || json.Compact(&line, body) != nil {
		return append(bytes.Clone(body), '\n')
	}
	return append(line.Bytes(), '\n')
}

// describe formats an event for people, with the fields of its data in order.
func describe(body []byte, signed string) string {
	var e grantexhook.RawEvent
	if json.Unmarshal(body, &e) != nil {
		return fmt.Sprintf("%s, %s\n", printable(string(body)), signed)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  created %s, %s\n", printable(e.Type), printable(e.ID), when(e.CreatedAt), signed)
	data := json.NewDecoder(bytes.NewReader(e.Data)) // valid, since the body is
	start, _ := data.Token()
	for start == json.Delim('{') && data.More() {
		var value json.RawMessage
		name, _ := data.Token()
		_ = data.Decode(&value)
		fmt.Fprintf(&b, "  %-16s %s\n", printable(fmt.Sprint(name)), plain(value))
	}
	return b.String()
}

// plain shows a value. Strings are shown without quotes if they're harmless.
func plain(value json.RawMessage) string {
	var one string
	var list []string
	switch {
	case json.Unmarshal(value, &one) == nil:
		return printable(one)
	case json.Unmarshal(value, &list) == nil && !slices.Contains(list, ""):
		for i := range list {
			list[i] = printable(list[i])
		}
		return strings.Join(list, ", ")
	}
	return printable(string(value))
}
