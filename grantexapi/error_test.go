package grantexapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
)

// refusedBy returns the Error for a response.
func refusedBy(t *testing.T, answer http.Handler) *grantexapi.Error {
	t.Helper()
	err := list(t.Context(), newAPI(t, answer).client())
	var refused *grantexapi.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, refused, err, "as it is, not wrapped")
	return refused
}

func TestErrorReplayed(t *testing.T) {
	all, _ := exchanges(t)
	n := 0
	for _, e := range all {
		if e.Response.Status < 300 {
			continue
		}
		n++
		t.Run(e.Name, func(t *testing.T) {
			var said struct{ Message, Code, RequestID string }
			require.NoError(t, json.Unmarshal([]byte(e.Response.Body), &said))
			want := &grantexapi.Error{StatusCode: e.Response.Status, Code: said.Code, Message: said.Message, RequestID: said.RequestID}
			for _, kv := range e.Response.Headers {
				if kv[0] == "retry-after" {
					wait, err := time.ParseDuration(kv[1] + "s")
					require.NoError(t, err)
					want.RetryAfter = wait
				}
			}
			got := refusedBy(t, e)
			require.Equal(t, want, got)
			require.Contains(t, got.Error(), said.Message)
			requireLine(t, got.Error())
		})
	}
	require.Equal(t, 43, n)
}

func requireLine(t *testing.T, text string) {
	t.Helper()
	require.True(t, strings.HasPrefix(text, "grantexapi: "), text)
	require.Less(t, len([]rune(text)), 640)
	for _, r := range text {
		require.True(t, unicode.IsPrint(r), "%q in %q", r, text)
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		name string
		err  grantexapi.Error
		want string
	}{
		{"all", grantexapi.Error{StatusCode: 402, Code: "PLAN_LIMIT_EXCEEDED", Message: "Plan limit reached", RequestID: "6180"},
			"grantexapi: the API returned 402 PLAN_LIMIT_EXCEEDED: Plan limit reached (request 6180)"},
		{"no code", grantexapi.Error{StatusCode: 404, Message: "Route GET:/v1/webhookz not found"},
			"grantexapi: the API returned 404: Route GET:/v1/webhookz not found"},
		{"status alone", grantexapi.Error{StatusCode: 599}, "grantexapi: the API returned 599"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.err.Error())
		})
	}
}

func TestErrorMessage(t *testing.T) {
	const nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n" +
		"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.25</center>\r\n</body>\r\n</html>"
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"page of a proxy", 502, nginx, "502 Bad Gateway"},
		{"title over lines", 503, "<!DOCTYPE html><TITLE>\n  api.grantex.dev |\t503\n</TITLE>", "api.grantex.dev | 503"},
		{"title cut off", 503, "<title>Unavail", "Unavail"},
		{"empty title", 502, "<title> </title>", "Bad Gateway"},
		{"page without title", 502, "\n<html><body>no</body></html>", "Bad Gateway"},
		{"plain text", 503, "upstream connect error\nor disconnect", "upstream connect error or disconnect"},
		{"empty", 500, "", "Internal Server Error"},
		{"white space", 500, " \r\n\t", "Internal Server Error"},
		{"only control characters", 500, "\x00\x01", "Internal Server Error"},
		{"status without a name", 599, "", ""},
		{"JSON without a message", 500, `{"secret":"` + secret + `"}`, "Internal Server Error"},
		{"JSON cut off", 500, `{"message":"half, "secret":"` + secret, "Internal Server Error"},
		{"array", 500, `["` + secret + `"]`, "Internal Server Error"},
		{"string", 500, `"` + secret + `"`, "Internal Server Error"},
		{"message of another type", 500, `{"message":{"text":"no"},"code":"X"}`, "Internal Server Error"},
		{"control characters", 400, `{"message":"a\u0000b\u001b[31mc\r\nd\u202ee\u2028f"}`, "a b [31mc d e f"},
		{"not UTF-8", 400, "a\xff\xfeb", "a\uFFFD\uFFFDb"},
		{"echo of the key", 401, `{"message":"Bearer ` + apiKey + ` is wrong"}`, "Bearer [redacted] is wrong"},
		{"echo in plain text", 401, "Authorization: Bearer " + apiKey, "Authorization: Bearer [redacted]"},
		{"key across the limit", 401, strings.Repeat("é", 390) + apiKey + " and more", strings.Repeat("é", 390) + "[redacted…"},
		{"long", 400, strings.Repeat("x", 5000), strings.Repeat("x", 399) + "…"},
		{"just short enough", 400, strings.Repeat("é", 400), strings.Repeat("é", 400)},
		{"too large", 400, strings.Repeat("x", 2<<20), strings.Repeat("x", 399) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := refusedBy(t, says(tt.status, tt.body))
			require.Equal(t, tt.status, got.StatusCode)
			require.Equal(t, tt.want, got.Message)
			requireLine(t, got.Error())
		})
	}
}

func TestErrorOtherFields(t *testing.T) {
	long := strings.Repeat("y", 200)
	got := refusedBy(t, says(400, `{"message":"no","code":"A\nB `+apiKey+long+`","requestId":"`+apiKey+`\u001b`+long+`"}`))
	require.Equal(t, "A B [redacted]"+strings.Repeat("y", 49)+"…", got.Code)
	require.Equal(t, "[redacted] "+strings.Repeat("y", 52)+"…", got.RequestID)
	requireLine(t, got.Error())
}

// TestErrorOfHalfAResponse checks that the status survives a response that breaks off.
func TestErrorOfHalfAResponse(t *testing.T) {
	got := refusedBy(t, cut(503, "upstream is"))
	require.Equal(t, 503, got.StatusCode)
	require.Equal(t, "upstream is", got.Message)
}

func TestErrorRetryAfter(t *testing.T) {
	waits := func(value string) time.Duration {
		return refusedBy(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(429)
		})).RetryAfter
	}
	require.Equal(t, 60*time.Second, waits("60"))
	require.InDelta(t, 30*time.Minute, waits(time.Now().Add(30*time.Minute).UTC().Format(http.TimeFormat)), float64(time.Minute))
	require.Equal(t, time.Hour, waits("99999999999999999"))
	require.Zero(t, waits("soon"))
}

// TestErrorStatus checks that only 300 to 399 with a Location are reported as
// redirects.
func TestErrorStatus(t *testing.T) {
	const redirect = "redirect to https://api.example.com, which is not followed; is Client.BaseURL right?"
	tests := []struct {
		status         int
		to, body, want string
	}{
		{300, "https://api.example.com", `{"webhooks":[]}`, redirect},
		{300, "", `{"webhooks":[]}`, "Multiple Choices"},
		{399, "https://api.example.com", "", redirect},
		{400, "https://api.example.com", "", "Bad Request"},
		{503, "https://api.example.com", "", "Service Unavailable"},
		{503, "https://api.example.com", "<title>back soon</title>", "back soon"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, tt.to, tt.body), func(t *testing.T) {
			got := refusedBy(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.to != "" {
					w.Header().Set("Location", tt.to)
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			require.Equal(t, tt.status, got.StatusCode)
			require.Equal(t, tt.want, got.Message)
		})
	}
}

func TestErrorRedirect(t *testing.T) {
	location := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(308)
		}
	}
	require.Equal(t, "redirect to https://api.example.com, which is not followed; is Client.BaseURL right?",
		refusedBy(t, location("https://me:word@api.example.com/?key="+apiKey)).Message)
	require.Equal(t, "Permanent Redirect", refusedBy(t, says(308, "")).Message)
	require.Regexp(t, `^redirect to http://(127\.0\.0\.1|\[::1\]):`, refusedBy(t, location("/")).Message)
}
