package grantexapi

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"grantex.dev/grantexhook"
)

const (
	defaultBaseURL = "https://api.grantex.dev"

	// callTimeout is for a nil HTTPClient, since net/http's default has no timeout.
	callTimeout = 30 * time.Second

	// maxHeader is far more than the API sends.
	maxHeader = 64 << 10

	// redacted replaces a key or a secret, as in [grantexhook.Secret].
	redacted = "[redacted]"
)

// A Client manages the endpoints of one Grantex account, and reads its grants and
// events. It's ready to use once APIKey is set, and safe for concurrent use as long as its fields
// don't change. Printed, logged or encoded, it shows neither its APIKey nor a BaseURL
// that isn't valid. The exceptions are fmt's verbs %p and %w, encoding/gob, and the
// limits of [grantexhook.Secret] for your own struct that holds or embeds a Client.
type Client struct {
	// APIKey is the key of the account. It consists of letters, digits and "-._~+/",
	// with "=" only at its end (RFC 6750, section 2.1).
	APIKey grantexhook.Secret

	// BaseURL is the address of the API, without "/v1": https://api.grantex.dev if empty.
	// It may have a path. Over http, the APIKey crosses the network in the clear.
	BaseURL string

	// HTTPClient sends the requests. If it's nil, http.DefaultTransport does, and a call
	// is limited to 30 seconds and 64 KiB of response headers. Grants may take longer, as
	// long as the response keeps coming. If you set HTTPClient, its Timeout or the context
	// should bound each call. Events always ignores Timeout. CheckRedirect is never
	// called, since redirects aren't followed.
	//
	// List, Delete, Deliveries, Grants and Grant may be retried, for example by
	// github.com/hashicorp/go-retryablehttp:
	//
	//	rc := retryablehttp.NewClient()
	//	rc.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	//	c.HTTPClient = rc.StandardClient()
	//
	// Without the second line it follows redirects, and takes the APIKey along to other
	// ports, to subdomains and from https to http. Create, Rotate and Events must not
	// be retried. Call them on a second Client whose HTTPClient doesn't retry.
	HTTPClient *http.Client
}

// Format implements [fmt.Formatter]. Without it, %s and %q would show the APIKey of a
// Client in a slice of pointers.
func (c Client) Format(f fmt.State, _ rune) { io.WriteString(f, c.text()) }

// MarshalText implements [encoding.TextMarshaler]. Without it, encoding/json and slog
// would show an APIKey that was put into BaseURL by mistake.
func (c Client) MarshalText() ([]byte, error) { return []byte(c.text()), nil }

func (c Client) text() string {
	base, err := c.base()
	if err != nil {
		base = "invalid"
	}
	return fmt.Sprintf("grantexapi.Client{BaseURL: %s, APIKey: %s}", base, redacted)
}

// base returns the BaseURL without a trailing slash. Its error doesn't quote the
// BaseURL, which may be a misplaced API key.
func (c *Client) base() (string, error) {
	u, err := url.Parse(cmp.Or(c.BaseURL, defaultBaseURL))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		*u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}) {
		return "", errors.New("grantexapi: Client.BaseURL must be an http or https URL with a host and nothing after its path, for example " + defaultBaseURL)
	}
	base := strings.TrimRight(u.String(), "/")
	if strings.HasSuffix(base, "/v1") {
		return "", errors.New(`grantexapi: Client.BaseURL must not end in "/v1"; remove it, since the client adds it`)
	}
	return base, nil
}

// bearerToken matches a key that quoting doesn't change, so the key can be found in
// quoted text.
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func (c *Client) checkKey() error {
	switch {
	case c.APIKey == "":
		return errors.New("grantexapi: Client.APIKey is empty; set it to the API key of your Grantex account")
	case c.APIKey == redacted:
		return errors.New("grantexapi: Client.APIKey is the placeholder " + redacted + "; convert the Secret to a string instead of printing it")
	case !bearerToken.MatchString(string(c.APIKey)):
		return errors.New("grantexapi: Client.APIKey has white space or another character that a key can't have; trim it")
	}
	return nil
}

// http returns a client that doesn't follow redirects. A 307 or 308 would repeat a
// POST, and the APIKey is only for the API.
func (c *Client) http() *http.Client {
	h := http.Client{Timeout: callTimeout, Transport: transport()}
	if c.HTTPClient != nil {
		h = *c.HTTPClient
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

// transport returns the Transport of a nil HTTPClient: http.DefaultTransport with a
// lower limit for headers, or unchanged if the program has set another type.
var transport = func() http.RoundTripper {
	if _, ok := http.DefaultTransport.(*http.Transport); !ok {
		return http.DefaultTransport
	}
	return bounded()
}

var bounded = sync.OnceValue(func() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	return t
})
