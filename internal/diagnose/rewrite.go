package diagnose

import (
	"bytes"
	"encoding/json"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

func compact(body []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, body) != nil {
		return nil
	}
	return b.Bytes()
}

func unescapeHTML(text []byte) []byte {
	for escape, char := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		text = bytes.ReplaceAll(text, []byte(escape), []byte(char))
	}
	return text
}

func escapeHTML(body []byte) []byte {
	var b bytes.Buffer
	json.HTMLEscape(&b, body)
	return b.Bytes()
}

func indent(by string) func([]byte) []byte {
	return func(body []byte) []byte {
		var b bytes.Buffer
		if indentedSize(body, len(by)) > maxBody || json.Indent(&b, body, "", by) != nil {
			return nil
		}
		return b.Bytes()
	}
}

// indentedSize returns a bound for the size of indented JSON. A few deep arrays
// would become gigabytes.
func indentedSize(body []byte, width int) int {
	size, depth := len(body), 0
	quoted, escaped := false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
			size += 1 + depth*width
		case c == '}' || c == ']':
			depth = max(depth-1, 0)
			size += 1 + depth*width
		case c == ',' || c == ':':
			size += 1 + depth*width
		}
	}
	return size
}

// rewritten writes an event of a known type as Grantex does.
func rewritten(body []byte) []byte {
	var e grantexhook.RawEvent
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	switch e.Type {
	case grantexhook.TypeGrantCreated:
		return rewrite[grantexhook.GrantCreated](body)
	case grantexhook.TypeGrantRevoked:
		return rewrite[grantexhook.GrantRevoked](body)
	case grantexhook.TypeTokenIssued:
		return rewrite[grantexhook.TokenIssued](body)
	}
	return nil
}

func rewrite[T any](body []byte) []byte {
	var e grantexhook.Event[T]
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	text, err := sender.Body(grantexhook.Event[any]{ID: e.ID, Type: e.Type, CreatedAt: e.CreatedAt, Data: e.Data})
	if err != nil {
		return nil
	}
	return text
}
