package grantexapi

import (
	"net/http"
	"runtime/debug"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	const path = "grantex.dev/grantexhook"
	module := func(path, version string) *debug.Module { return &debug.Module{Path: path, Version: version} }
	replaced := &debug.Module{Path: path, Version: "v1.2.3", Replace: module("../grantexhook", "")}
	tests := []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"no build info", nil, "devel"},
		{"other modules", &debug.BuildInfo{Main: *module("example.com/app", "v9.9.9"), Deps: []*debug.Module{module(path+"/redisstore", "v8.8.8")}}, "devel"},
		{"dependency", &debug.BuildInfo{
			Main: *module("example.com/app", "v9.9.9"),
			Deps: []*debug.Module{module("example.com/dep", "v7.7.7"), module(path, "v1.2.3")},
		}, "v1.2.3"},
		{"main module", &debug.BuildInfo{Main: *module(path, "v1.2.3")}, "v1.2.3"},
		{"working tree", &debug.BuildInfo{Main: *module(path, "(devel)")}, "devel"},
		{"test", &debug.BuildInfo{Main: *module(path, "")}, "devel"},
		{"replaced", &debug.BuildInfo{Deps: []*debug.Module{replaced}}, "devel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, version(tt.info))
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name, value string
		want        time.Duration
	}{
		{"none", "", 0},
		{"seconds", "59", 59 * time.Second},
		{"zero", "0", 0},
		{"negative", "-5", 0},
		{"fraction", "1.5", 0},
		{"word", "soon", 0},
		{"an hour", "3600", time.Hour},
		{"more than an hour", "3601", time.Hour},
		{"longer than a Duration", "99999999999999999", time.Hour},
		{"longer than a number", "99999999999999999999999", time.Hour},
		{"longer than a negative number", "-99999999999999999999999", 0},
		{"date", "Mon, 23 Nov 2026 12:01:30 GMT", 90 * time.Second},
		{"date of RFC 850", "Monday, 23-Nov-26 12:01:30 GMT", 90 * time.Second},
		{"date in the far future", "Fri, 31 Dec 9999 23:59:59 GMT", time.Hour},
		{"date in the past", "Mon, 23 Nov 2026 11:00:00 GMT", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, retryAfter(tt.value, now))
		})
	}
}

// FuzzError looks for responses whose error isn't one short printable line, or shows the
// API key.
func FuzzError(f *testing.F) {
	const apiKey = "gx_test_0123456789"
	for _, body := range []string{
		`{"message":"Webhook not found","code":"NOT_FOUND","requestId":"c196aad7"}`,
		`{"message":"gx_test_` + `0123456789","code":"a\u0000b","requestId":"\u202e"}`,
		"<html><head><title>502 Bad\nGateway</title></head></html>",
		"gx_test_\x000123456789 gx_test_0123456789gx_test_0123456789",
		"\xff\xfe",
	} {
		f.Add(502, body, "60", "https://api.example.com/gx_test_0123456789")
		f.Add(308, body, "Mon, 23 Nov 2026 12:01:30 GMT", "//gx_test_0123456789/")
	}
	f.Fuzz(func(t *testing.T, status int, body, retryAfter, location string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}, "Location": {location}}}
		err := newError(resp, []byte(body), apiKey)
		text := err.Error()
		require.NotContains(t, text, apiKey)
		require.Less(t, utf8.RuneCountInString(text), 650)
		require.NotContains(t, text, "  ")
		for _, r := range text {
			require.True(t, unicode.IsPrint(r), "%q", r)
		}
		require.GreaterOrEqual(t, err.RetryAfter, time.Duration(0))
		require.LessOrEqual(t, err.RetryAfter, time.Hour)
	})
}
