package sender

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ParseURL parses the URL of an endpoint. It escapes the query as the WHATWG's URL
// standard does. Its errors don't quote the URL, which may hold a password.
func ParseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, errors.New("grantexhook: the URL is malformed")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("grantexhook: the URL must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("grantexhook: the URL has no host")
	case u.User != nil:
		return nil, errors.New("grantexhook: the URL contains a user name, which Grantex does not accept; remove it")
	}
	u.RawQuery = escapeQuery(u.RawQuery)
	return u, nil
}

// escapeQuery escapes spaces, quotes, angle brackets and everything that isn't ASCII.
// Go would send the query as it was written.
func escapeQuery(query string) string {
	var b strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"'<>`, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
