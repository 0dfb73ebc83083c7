package grantexapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxRetryAfter bounds how long a response can make a caller wait.
const maxRetryAfter = time.Hour

// How many characters of a response's text are kept.
const (
	maxWord = 64
	maxLine = 400
)

// An Error is a response that rejects a call, from the API or from a proxy in between.
// The methods of [Client] return a pointer to it, which [errors.As] finds.
//
// Branch on StatusCode, since a status can have several codes: 401 if the APIKey is
// wrong, 402 at the limit of the plan, 404 if the endpoint or the grant doesn't exist,
// 429 after too many calls (see RetryAfter). The texts are truncated, have no control
// characters and never contain the APIKey.
type Error struct {
	StatusCode int           // the HTTP status; a redirect is a rejection too
	Code       string        // for example "PLAN_LIMIT_EXCEEDED"; may be empty
	Message    string        // the response's message, or the name of the status
	RequestID  string        // for Grantex's support; may be empty
	RetryAfter time.Duration // how long to wait before the next call, at most an hour; zero if the response doesn't say
}

// Error returns one line with every field except RetryAfter.
func (e *Error) Error() string {
	text := fmt.Sprintf("grantexapi: the API returned %d", e.StatusCode)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// isTooManyStreams reports whether the account has as many event streams as Grantex
// allows.
func (e *Error) isTooManyStreams() bool {
	return e.StatusCode == http.StatusTooManyRequests && e.Code == "TOO_MANY_CONNECTIONS"
}

func newError(resp *http.Response, body []byte, apiKey string) *Error {
	var said struct{ Message, Code, RequestID string }
	_ = json.Unmarshal(body, &said) // leaves said empty if it isn't JSON
	line := func(s string) string { return clean(s, apiKey, maxLine) }
	return &Error{
		StatusCode: resp.StatusCode,
		Code:       clean(said.Code, apiKey, maxWord),
		Message:    cmp.Or(line(said.Message), line(redirect(resp)), line(excerpt(string(body))), http.StatusText(resp.StatusCode)),
		RequestID:  clean(said.RequestID, apiKey, maxWord),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

// redirect names the host that a response redirects to. The rest of the location may
// contain anything.
func redirect(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil || resp.StatusCode < 300 || resp.StatusCode > 399 {
		return ""
	}
	return fmt.Sprintf("redirect to %s://%s, which is not followed; is Client.BaseURL right?", to.Scheme, to.Host)
}

// excerpt returns a proxy's message: the title of a page, or plain text. JSON of an
// unknown shape might contain a secret.
func excerpt(body string) string {
	for _, tag := range []string{"<title>", "<TITLE>"} {
		if _, title, ok := strings.Cut(body, tag); ok {
			title, _, _ = strings.Cut(title, "<")
			return strings.TrimSpace(title)
		}
	}
	body = strings.TrimSpace(body)
	if body == "" || strings.ContainsAny(body[:1], `<{["`) {
		return ""
	}
	return body
}

// clean turns text into one printable line of at most limit characters, without the
// API key. The order matters: removing a character must not join the halves of a key,
// and the limit must not leave half a key.
func clean(text, apiKey string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(text, apiKey, redacted)
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit-1]) + "…"
	}
	return text
}

// retryAfter parses the Retry-After header, which contains seconds or a date (RFC 9110,
// section 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}
