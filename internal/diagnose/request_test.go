package diagnose_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/diagnose"
)

func TestParseRequest(t *testing.T) {
	one, chunked := http.Header{"A": {"b"}}, http.Header{"Transfer-Encoding": {"chunked"}}
	tests := []struct {
		name, text, body string
		header           http.Header
	}{
		{"content length", "POST / HTTP/1.1\r\nContent-Length: 2\r\na:  s \r\n\r\nab", "ab", http.Header{"A": {"s"}, "Content-Length": {"2"}}},
		{"more than the content length", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\n", "ab", http.Header{"Content-Length": {"2"}}},
		{"no length", "POST / HTTP/1.1\r\nA: b\r\n\r\nab\r\n\r\ncd", "ab\r\n\r\ncd", http.Header{"A": {"b"}}},
		{"line feeds", "\nPOST / HTTP/1.1\na: b\n\n{}", "{}", one},
		{"a header like a request line", "a: b\nvia: x HTTP/1.1\n\n{}", "{}", http.Header{"A": {"b"}, "Via": {"x HTTP/1.1"}}},
		{"headers alone", "a: b\na: c\n\n{}", "{}", http.Header{"A": {"b", "c"}}},
		{"chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n", "{}abc", chunked},
		{"chunks with line feeds", "POST / HTTP/1.1\nTransfer-Encoding: Chunked\n\n2\n{}\n3\na\nb\n0\n\n", "{}a\nb", http.Header{"Transfer-Encoding": {"Chunked"}}},
		{"chunks taken off", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}", "{}", http.Header{"Transfer-Encoding": {"chunked"}}},
		{"as curl shows it", "* Connected\n> POST / HTTP/1.1\n> a: b\n>\n{}", "{}", one},
		{"HTTP/2 as curl shows it", "* [HTTP/2] [1] [:method: POST]\n} [5 bytes data]\n> POST /hook HTTP/2\n> a: b\n>\n{ [5 bytes data]\n{}", "{}", one},
		{"pseudo-headers", ":method: POST\n:path: /hook\n:scheme: https\n:authority: h\na: b\n\n{}", "{}", one},
		{"pseudo-headers after a request line", "POST /hook HTTP/2.0\r\n:authority: h\r\na: b\r\n\r\n{}", "{}", one},
		{"handshake", "* TLSv1.3 (IN)\r\n{ [1 bytes data]\r\n> POST / HTTP/1.1\r\n> a: b\r\n>\r\n} [2 bytes data]\r\n* sent off\r\n{}", "{}", one},
		{"notes after the body", "> POST / HTTP/1.1\n> Content-Length: 2\n>\n{}\n* Connection #0 left intact\n", "{}", http.Header{"Content-Length": {"2"}}},
		{"a body like a note", "POST / HTTP/1.1\n\n{ [5 bytes of data] }", "{ [5 bytes of data] }", http.Header{}},
		{"no body", "POST / HTTP/1.1\r\n\r\n", "", http.Header{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header, body, err := diagnose.ParseRequest([]byte(tt.text))
			require.NoError(t, err)
			require.Equal(t, tt.body, string(body))
			require.Equal(t, tt.header, header)
		})
	}
}

func TestParseRequestRejects(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", "", "no empty line"},
		{"no end of the head", "POST / HTTP/1.1\r\na: b", "no empty line"},
		{"a body alone", `{"id":"evt_1"}` + "\n\n", "not a header"},
		{"no colon", "POST / HTTP/1.1\r\nab\r\n\r\n", "not a header"},
		{"the response instead of the body", "> POST / HTTP/2\n> a: b\n>\n} [2 bytes data]\n< HTTP/2 200\n<\nhandled", "a response follows the headers"},
		{"length is not a number", "Content-Length: x\r\n\r\n", "not a number"},
		{"length below zero", "Content-Length: -1\r\n\r\n", "not a number"},
		{"too short", "Content-Length: 3\r\n\r\nab", "has 2 bytes, but its Content-Length is 3"},
		{"cut in a chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "broken after 3 bytes"},
		{"cut between chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "broken after 3 bytes"},
		{"cut in a chunk with line feeds", "Transfer-Encoding: chunked\n\n5\nabc", "broken"},
		{"cut at the end of a line", "Transfer-Encoding: chunked\n\n3\nabc", "broken"},
		{"no chunks", "Transfer-Encoding: chunked\n\nhello", "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := diagnose.ParseRequest([]byte(tt.text))
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("* x\n> POST / HTTP/1.1\n> a: b\n>\n{}"))
	f.Add([]byte("Transfer-Encoding: chunked\n\n2\n{}\n3\na\nb\n0\n\n"))
	f.Add([]byte("Content-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, body, err := diagnose.ParseRequest(text); err == nil {
			require.LessOrEqual(t, len(body), len(text))
		}
	})
}
