package sender_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/sender"
)

func TestParseURL(t *testing.T) {
	tests := []struct{ name, url, want string }{
		{"malformed", "http://secret\x7f/", "malformed"},
		{"empty", "", "must begin with"},
		{"no scheme", "secret.example/hook", "must begin with"},
		{"another scheme", "ftp://secret.example", "must begin with"},
		{"no host", "http:///secret", "no host"},
		{"only a port", "http://:8080/secret", "no host"},
		{"a user", "https://me:secret@example.com", "user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sender.ParseURL(tt.url)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// TestParseURLEscapes checks what goes into the request line. The wanted texts are
// what new URL(url) makes of them in JavaScript.
func TestParseURLEscapes(t *testing.T) {
	tests := []struct{ name, url, want string }{
		{"a space in the query", "http://h/hook?x=1 2", "/hook?x=1%202"},
		{"quotes and brackets", `http://h/?a="b"&c='d'&e=<f>`, "/?a=%22b%22&c=%27d%27&e=%3Cf%3E"},
		{"no ASCII in the query", "http://h/?q=é☃", "/?q=%C3%A9%E2%98%83"},
		{"escaped already", "http://h/?q=%20+%zz&r=a/b:c?d", "/?q=%20+%zz&r=a/b:c?d"},
		{"a space in the path", "http://h/a b?c d", "/a%20b?c%20d"},
		{"no ASCII in the path", "http://h/é", "/%C3%A9"},
		{"an empty query", "http://h/?", "/?"},
		{"no path", "http://h?a b", "/?a%20b"},
		{"a fragment", "http://h/a?b#c d", "/a?b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := sender.ParseURL(tt.url)
			require.NoError(t, err)
			require.Equal(t, tt.want, u.RequestURI())
		})
	}
}
