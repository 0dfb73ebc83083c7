package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// A receiver responds with one status after the other, repeats the last, and keeps
// what it was sent.
type receiver struct {
	mu       sync.Mutex
	statuses []int
	bodies   []string
	headers  []http.Header
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, string(body))
	r.headers = append(r.headers, req.Header)
	status := http.StatusOK
	if len(r.statuses) > 0 {
		status = r.statuses[min(len(r.bodies), len(r.statuses))-1]
	}
	w.WriteHeader(status)
}

func TestSend(t *testing.T) {
	tests := []struct {
		name     string
		statuses []int
		stdin    string
		args     string
		status   int
		sent     int
		took     time.Duration
	}{
		{"one", nil, "", "-id evt_1 grant.created", exitDone, 1, 0},
		{"three-times", nil, "", "-id evt_1 -count 3 token.issued", exitDone, 3, 0},
		{"json", nil, "", "-id evt_1 -json grant.revoked", exitDone, 1, 0},
		{"data", nil, `{"a": "<b>"}`, "-id evt_1 -data - x.y", exitDone, 1, 0},
		{"data-no-object", nil, `[]`, "-id evt_1 -data - x.y", exitUsage, 0, 0},
		{"rejected", []int{401}, "", "-id evt_1 grant.created", exitFailed, 1, 0},
		{"wrong-path", []int{404}, "", "-id evt_1 grant.created", exitFailed, 1, 0},
		{"redirected", []int{307}, "", "-id evt_1 grant.created", exitFailed, 1, 0},
		{"failed", []int{500}, "", "-id evt_1 -json grant.created", exitFailed, 1, 0},
		{"some-failed", []int{500, 200}, "", "-id evt_1 -count 3 grant.created", exitFailed, 3, 0},
		{"crash-204", []int{204}, "", "-id evt_1 -retry grant.created", exitFailed, 1, 0},
		{"crash-304", []int{304}, "", "-id evt_1 -retry grant.created", exitFailed, 1, 0},
		{"retry", []int{500, 503, 200}, "", "-id evt_1 -retry grant.created", exitDone, 3, 150 * time.Second},
		{"retry-in-vain", []int{500}, "", "-id evt_1 -retry -json grant.created", exitFailed, 5, 570 * time.Second},
		{"soonest", []int{500, 500, 500, 500, 200}, "", "-id evt_1 -retry=soonest grant.created", exitDone, 5, 450 * time.Second},
		{"retry-unknown", nil, "", "-id evt_1 -retry=later grant.created", exitUsage, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &receiver{statuses: tt.statuses}
				s := withSecret()
				s.stdin, s.dial = tt.stdin, serveMemory(t, rec)
				start := time.Now()
				r := s.run(t.Context(), append(append([]string{"send"}, strings.Fields(tt.args)...), "http://receiver.test/hook")...)
				require.Equal(t, tt.status, r.status, r)
				require.Len(t, rec.bodies, tt.sent)
				require.Equal(t, tt.took, time.Since(start))
				for _, body := range rec.bodies {
					require.Equal(t, rec.bodies[0], body, "with one id they are one event")
				}
				golden(t, "send-"+tt.name, r.String())
			})
		})
	}
}

// TestSendRedirected checks which responses count as redirects.
func TestSendRedirected(t *testing.T) {
	for status, redirected := range map[int]bool{300: true, 308: true, 399: true, 400: false, 503: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}))
		r := withSecret().run(t.Context(), "send", "grant.created", s.URL)
		s.Close()
		require.Equal(t, exitFailed, r.status, status)
		require.Equal(t, redirected, strings.Contains(r.stderr, "Grantex doesn't follow redirects"), "%d: %s", status, r.stderr)
	}
}

// TestSendNothingListens checks that the output differs from a rejection.
func TestSendNothingListens(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	r := withSecret().run(t.Context(), "send", "grant.created", s.URL)
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.stdout, "no response")
	require.Contains(t, r.stderr, "hint: is the receiver running?")
}

// TestSendIsAccepted checks that the library accepts what is sent, and that it's
// signed for the time asked for.
func TestSendIsAccepted(t *testing.T) {
	tests := []struct {
		name, args string
		age        time.Duration
		legacy     bool
	}{
		{"now", "", 0, false},
		{"legacy", "-legacy", 0, true},
		{"ago", "-at -10m", 10 * time.Minute, false},
		{"ahead", "-at 2m", -2 * time.Minute, false},
		{"Unix seconds", "-at 946684740", time.Minute, false}, // a bubble begins at 946684800
		{"RFC 3339", "-at 1999-12-31T23:59:00Z", time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, err := grantexhook.NewVerifier(testSecret, &grantexhook.Options{Tolerance: time.Hour})
				require.NoError(t, err)
				types := map[string]bool{}
				s := withSecret()
				s.dial = serveMemory(t, v.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
					verified, _ := grantexhook.VerificationFrom(req.Context())
					require.Equal(t, tt.legacy, verified.SentAt.IsZero())
					if !tt.legacy {
						require.Equal(t, tt.age, time.Since(verified.SentAt))
					}
					var e grantexhook.RawEvent
					require.NoError(t, json.NewDecoder(req.Body).Decode(&e))
					require.Regexp(t, `^evt_\w{26}$`, e.ID)
					require.Equal(t, tt.age, time.Since(e.CreatedAt))
					types[e.Type] = true
				})))
				for _, eventType := range eventTypes() {
					r := s.run(t.Context(), append(append([]string{"send"}, strings.Fields(tt.args)...), eventType, "http://receiver.test/")...)
					require.Equal(t, exitDone, r.status, r)
				}
				require.Len(t, types, len(eventTypes()))
			})
		})
	}
}

func TestSendDataFromFile(t *testing.T) {
	rec := &receiver{}
	s := httptest.NewServer(rec)
	defer s.Close()
	file := filepath.Join(t.TempDir(), "data.json")
	require.NoError(t, os.WriteFile(file, []byte("{\n  \"grantId\": \"<g>\"\n}\n"), 0o600))
	r := withSecret().run(t.Context(), "send", "-id", "evt_1", "-at", "1795434598", "-data", file, "grant.revoked", s.URL)
	require.Equal(t, exitDone, r.status, r)
	require.Len(t, rec.bodies, 1)
	require.Regexp(t, `^{"id":"evt_1","type":"grant\.revoked","createdAt":"2026-11-23T11:49:58\.\d{3}Z","data":{"grantId":"<g>"}}$`, rec.bodies[0])
	require.Equal(t, "1795434598", rec.headers[0].Get(grantexhook.HeaderTimestamp))

	largest := []byte("{}" + strings.Repeat(" ", maxInput-2))
	require.NoError(t, os.WriteFile(file, largest, 0o600))
	r = withSecret().run(t.Context(), "send", "-data", file, "grant.revoked", s.URL)
	require.Equal(t, exitDone, r.status, r)
	require.NoError(t, os.WriteFile(file, append(largest, ' '), 0o600))
	r = withSecret().run(t.Context(), "send", "-data", file, "grant.revoked", s.URL)
	require.Equal(t, exitUsage, r.status)
	require.Contains(t, r.stderr, "data.json is larger than 1048576 bytes")
	r = withSecret().run(t.Context(), "send", "-data", file, "", s.URL)
	require.Equal(t, exitUsage, r.status)
	require.Contains(t, r.stderr, "the type is empty")
}

// TestSendInterrupted checks that the wait for a retry ends with the context.
func TestSendInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
		defer cancel()
		s := withSecret()
		s.dial = serveMemory(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			if time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) >= time.Minute {
				<-req.Context().Done()
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		r := s.run(ctx, "send", "-retry", "-count", "2", "-id", "evt_1", "grant.created", "http://receiver.test/")
		require.Equal(t, exitFailed, r.status)
		golden(t, "send-interrupted", r.String())
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := withSecret().run(ctx, "send", "-retry", "-id", "evt_1", "grant.created", "http://127.0.0.1:1/")
	require.Equal(t, "grantexhook: 0 of 1 events delivered\n", r.stderr, "it doesn't retry")
}
