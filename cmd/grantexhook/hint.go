package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/internal/diagnose"
	"grantex.dev/grantexhook/internal/sender"
)

// apiHint returns what to do about an error of the API.
func apiHint(err error) string {
	refused, _ := errors.AsType[*grantexapi.Error](err)
	refused = cmp.Or(refused, &grantexapi.Error{})
	_, unreached := errors.AsType[*url.Error](err)
	switch status := refused.StatusCode; {
	case errors.Is(err, grantexapi.ErrMaybeCreated):
		return "grantexhook endpoints list shows it if it was created; its secret is lost, so delete it before creating another"
	case unreached && !errors.Is(err, context.Canceled):
		return "can this machine reach the API? check GRANTEX_URL if it is set"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "check GRANTEX_API_KEY, and GRANTEX_URL if it is set"
	case status == http.StatusPaymentRequired:
		return "grantexhook endpoints delete ID makes room for another"
	case status == http.StatusNotFound && refused.Code == "":
		return "check GRANTEX_URL if it is set; an unknown ID would have the code NOT_FOUND"
	case status == http.StatusNotFound:
		return "grantexhook endpoints list shows the IDs; check GRANTEX_URL if it is set"
	case status == http.StatusTooManyRequests || status >= 500:
		return tryAgain(refused.RetryAfter)
	}
	return ""
}

func tryAgain(wait time.Duration) string {
	switch {
	case wait <= 0:
		return "try again in a minute"
	case wait >= time.Hour:
		return "try again in an hour"
	}
	return fmt.Sprintf("try again in %v", wait)
}

// hint returns what to do about an attempt that failed.
func (c *courier) hint(a sender.Attempt) string {
	switch {
	case a.Crashes():
		return "respond with 200 and a short body"
	case a.Err == errInterrupted:
		return ""
	case a.Err != nil:
		return c.connectionHint(a.Err)
	case a.Status == http.StatusUnauthorized:
		return c.unauthorizedHint()
	case a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed:
		return "is the path right? 'grantexhook listen' expects POST to " + defaultPath
	case a.Status >= 300 && a.Status < 400:
		return "Grantex doesn't follow redirects: is the URL right, including the slash at its end?"
	case a.Status == http.StatusBadRequest && wantsTLS(a.Excerpt):
		return httpsHint
	}
	return "the receiver's log may say why"
}

const httpsHint = "if the receiver speaks https, the URL must begin with https://"

// wantsTLS recognizes how Go, nginx and Apache respond to http at a port for https.
func wantsTLS(excerpt string) bool {
	return strings.Contains(excerpt, "HTTPS") || strings.Contains(excerpt, "SSL")
}

func (c *courier) unauthorizedHint() string {
	switch ahead := c.parcel.Skew; {
	case c.parcel.Legacy:
		return "does the receiver require a timestamp (Options.RequireTimestamp), which -legacy leaves out? if not, does it have the same secret?"
	case max(ahead, -ahead) > grantexhook.DefaultTolerance:
		return "with this -at the timestamp is outside the tolerance; without it, does the receiver have the same secret?"
	}
	return "does the receiver have the same secret and the right time? if so, was the body read or changed before it was verified? " +
		"the receiver's log has the reason; 'grantexhook verify' checks a saved request"
}

// connectionHint is for an attempt without a response.
func (c *courier) connectionHint(err error) string {
	_, notTrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, otherHost := errors.AsType[x509.HostnameError](err)
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	_, noHandshake := errors.AsType[*sender.HandshakeError](err)
	network, _ := errors.AsType[*net.OpError](err)
	op := cmp.Or(network, &net.OpError{}).Op
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Grantex gives up after ten seconds: what is the handler waiting for?"
	case op == "dial":
		return "is the receiver running? 'grantexhook listen' starts one"
	case otherHost:
		return "the certificate is for another host: is the host in the URL right?"
	case notTrusted && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet: renew it, or set this machine's clock"
	case notTrusted:
		return "this machine doesn't trust the certificate: set SSL_CERT_FILE to a file with the issuer's certificate; on macOS and Windows, add it to the system's"
	case noHandshake && op == "remote error":
		return "the receiver ended the handshake; its log may say why"
	case noHandshake:
		return "if the receiver speaks http, the URL must begin with http://"
	case errors.Is(err, sender.ErrNotHTTP):
		return httpsHint
	case strings.HasPrefix(err.Error(), "malformed HTTP"):
		return "is the port right? the program that listens there doesn't speak HTTP/1.1"
	case c.parcel.URL.Scheme == "http" && (errors.Is(err, io.ErrUnexpectedEOF) || op == "read"):
		return "the receiver hung up: did its handler panic? " + httpsHint
	}
	return "the receiver's log may say why"
}

// mistakeHints are what to do about a wrong signature.
var mistakeHints = map[diagnose.Kind]string{
	diagnose.SecretWrapped:    "trim it where it is read from a file or from the environment",
	diagnose.SecretEncoded:    "decode it, for example with base64 -d, before you store it",
	diagnose.SecretDecoded:    "the key is the text of the secret as Grantex shows it, neither decoded nor in another case",
	diagnose.SecretNewline:    "echo adds a newline, printf %s doesn't",
	diagnose.BodyEnd:          "an editor or echo adds it; printf %s doesn't",
	diagnose.BodyChanged:      "verify the bytes as they arrive, before anything reads or decodes them",
	diagnose.BodyEncoded:      "undo the encoding before verifying",
	diagnose.BodyRewritten:    "re-encoded JSON is no longer what was signed: verify the raw bytes",
	diagnose.TimestampUnit:    "the timestamp is in whole Unix seconds, and signed as it is sent",
	diagnose.SignedBodyAlone:  grantexhook.HeaderSignatureV2 + " covers the timestamp, a dot and the body",
	diagnose.SignedTimestamp:  grantexhook.HeaderSignature + " covers only the body",
	diagnose.SignedWithoutDot: grantexhook.HeaderSignatureV2 + " covers the timestamp, a dot and the body",
	diagnose.HeaderForm:       "the value must be sha256= and the 64 hex digits of an HMAC-SHA256, sent once",
	diagnose.V2Changed: "the secret and the body are right: was " + grantexhook.HeaderTimestamp + " or " +
		grantexhook.HeaderSignatureV2 + " changed in transit?",
}
