package grants_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// A streamed is a kind of event, and what it does.
type streamed struct {
	match string // in the body
	ends  bool   // the grant that it names
	list  bool   // it may have ended others
}

// recorded are the kinds of events in the recording.
var recorded = []streamed{
	{`"cascade":false}}`, true, false},
	{`"cascade":true}}`, true, true},
	{`"type":"anomaly.auto_revoked"`, true, true},
	{`"grantRevoked":true,`, false, true},
	{`"grantRevoked":false,`, false, false},
	{`"grantsRevoked":1}}`, false, true},
	{`"revokeGrant":true}}`, false, true},
	{`"revokeGrant":false}}`, false, false},
	{`"type":"grant.created"`, false, false},
	{`"type":"token.issued"`, false, false},
	{`"type":"budget.exhausted"`, false, false},
	{`"type":"vc.issued"`, false, false},
	{`"type":"consent_bundle.created"`, false, false},
	{`"type":"dpdp.consent.created"`, false, false},
}

// recordedEvents returns the bodies of a recorded stream.
func recordedEvents(t *testing.T) (bodies [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../grantexapi/testdata/stream-all-types.txt")
	require.NoError(t, err)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if body, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok {
			bodies = append(bodies, bytes.Clone(body))
		}
	}
	require.NotEmpty(t, bodies)
	return bodies
}

// named returns the grants that an event names.
func named(t *testing.T, body []byte) []string {
	t.Helper()
	var e struct {
		Data struct {
			GrantID       string
			RevokedGrants []string
		}
	}
	require.NoError(t, json.Unmarshal(body, &e))
	if e.Data.GrantID != "" {
		return []string{e.Data.GrantID}
	}
	return e.Data.RevokedGrants
}

// hear publishes an event some time after a list, and checks what it does. The next
// list without an event isn't due yet.
func (w *world) hear(body []byte, want streamed) {
	w.Helper()
	require.NoError(w, w.cache.Sync(w.Context()))
	time.Sleep(6 * time.Second)
	w.requests()
	before := len(w.toldSoFar())
	w.Publish(hooktest.Raw(body))
	synctest.Wait()
	told := w.toldSoFar()[before:]
	if want.ends {
		require.Equal(w, [][]string{named(w.T, body)}, told, "%s", body)
	} else {
		require.Empty(w, told, "%s", body)
	}
	require.Equal(w, want.list, count(w.requests(), "list") == 1, "%s", body)
}

// connected returns a world whose stream stands.
func connected(t *testing.T, opts grants.Options) *world {
	t.Helper()
	w := newWorld(t, opts)
	w.run()
	time.Sleep(31 * time.Second)
	require.True(t, w.cache.Status().Connected)
	return w
}

// TestRecordedStream checks each event of a real stream: which grants it ends, and
// whether Run asks for a list.
func TestRecordedStream(t *testing.T) {
	bodies := recordedEvents(t)
	synctest.Test(t, func(t *testing.T) {
		w := connected(t, grants.Options{})
		seen := map[string]bool{}
		for _, body := range bodies {
			var kinds []streamed
			for _, kind := range recorded {
				if strings.Contains(string(body), kind.match) {
					kinds = append(kinds, kind)
				}
			}
			require.Len(t, kinds, 1, "%s", body)
			seen[kinds[0].match] = true
			w.hear(body, kinds[0])
		}
		require.Len(t, seen, len(recorded), "each kind was recorded")
	})
}

// TestOtherEvents checks events that weren't recorded. An event asks for a list unless
// it's certain that no other grant ended.
func TestOtherEvents(t *testing.T) {
	tests := []struct {
		name, kind, data string
		ends, list       bool
	}{
		{"no list of grants", "anomaly.auto_revoked", `{"anomalyCount":1}`, false, true},
		{"empty list of grants", "anomaly.auto_revoked", `{"revokedGrants":[],"anomalyCount":1}`, false, false},
		{"two grants", "anomaly.auto_revoked", `{"revokedGrants":["grnt_1","grnt_2"]}`, true, true},
		{"withdrawn, nothing else known", "dpdp.consent.withdrawn", `{}`, false, true},
		{"erased, nothing else known", "dpdp.erasure.completed", `{}`, false, true},
		{"erased no grant", "dpdp.erasure.completed", `{"grantsRevoked":0}`, false, false},
		{"bundle, nothing else known", "consent_bundle.revoked", `{}`, false, true},
		{"no ID", "grant.revoked", `{"cascade":false}`, false, true},
		{"too long an ID", "grant.revoked", `{"grantId":"` + strings.Repeat("x", 129) + `","cascade":false}`, false, true},
		{"no cascade", "grant.revoked", `{"grantId":"grnt_1"}`, true, false},
		{"new fields", "grant.revoked", `{"grantId":"grnt_1","cascade":false,"by":{"id":1}}`, true, false},
		{"field of another type", "grant.revoked", `{"grantId":1}`, false, true},
		{"null", "grant.revoked", `null`, false, true},
		{"unknown type", "grant.suspended", `{"grantId":"grnt_1"}`, false, true},
		{"no type", "", `{"grantId":"grnt_1"}`, false, true},
		{"harmless", "budget.threshold", `{"grantId":"grnt_1"}`, false, false},
		{"harmless", "consent_bundle.synced", `{"grantId":"grnt_1"}`, false, false},
		{"harmless", "dpdp.grievance.filed", `{"grantId":"grnt_1"}`, false, false},
		{"harmless", "anomaly.detected", `{"grantId":"grnt_1"}`, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.kind+" "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := connected(t, grants.Options{})
				w.hear(fmt.Appendf(nil, `{"id":"evt_1","type":%q,"createdAt":"2026-11-26T16:31:57.545Z","data":%s}`, tt.kind, tt.data), streamed{ends: tt.ends, list: tt.list})
			})
		})
	}
	for name, body := range map[string][]byte{"not JSON": []byte("x"), "too large": bytes.Repeat([]byte("x"), 1<<20+1)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := connected(t, grants.Options{Log: log.log()})
				w.hear(body, streamed{list: true})
				require.True(t, w.cache.Status().Connected)
				require.Empty(t, log.about(""))
			})
		})
	}
}

// TestRejectedStream checks that Run retries the stream although a rejection may last,
// ever more rarely, and logs it once when it begins and once when it's over.
func TestRejectedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		w := newWorld(t, grants.Options{Log: log.log()})
		id := w.grant()
		var at []time.Time
		w.serve(func(rw http.ResponseWriter, r *http.Request) {
			at = append(at, time.Now())
			apiError(401, "UNAUTHORIZED")(rw, r)
		}, "stream")
		w.run()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.GreaterOrEqual(t, len(at), 10)
		for i := range at[1:] {
			wait, least := at[i+1].Sub(at[i]), min(15*time.Minute, time.Minute<<i)
			require.GreaterOrEqual(t, wait, least)
			require.LessOrEqual(t, wait, min(15*time.Minute, least*5/4))
		}
		lines := log.about("stream")
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], loud)
		require.Contains(t, lines[0], "401 UNAUTHORIZED")
		require.ErrorContains(t, w.cache.Status().Err, "401 UNAUTHORIZED")
		require.False(t, w.cache.Status().Connected)
		require.NoError(t, w.cache.Check(t.Context(), id), "lists go on")

		w.serve(nil, "stream")
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		require.True(t, w.cache.Status().Connected)
		require.NoError(t, w.cache.Status().Err)
		require.Len(t, log.about("INFO msg=\"grants: works again: the live stream"), 1)
		first := len(at)
		w.serve(func(rw http.ResponseWriter, r *http.Request) {
			at = append(at, time.Now())
			apiError(403, "FORBIDDEN")(rw, r)
		}, "stream")
		w.Crash()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, at[first+1].Sub(at[first]), 75*time.Second, "waits begin anew")
		require.Len(t, log.about("403 FORBIDDEN"), 1)
	})
}

// TestInterruptedStream checks that the log calls an interruption a warning, since Events
// reconnects by itself.
func TestInterruptedStream(t *testing.T) {
	tests := []struct {
		name   string
		serve  http.HandlerFunc
		stands bool // for a moment, each time
		text   string
	}{
		{"connection broken", broken(": keepalive\n\n"), true, "reading the stream: unexpected EOF"},
		{"ended", reply(200, ": keepalive\n\n"), true, "the stream ended"},
		{"silence", hang, false, "silent for 1m30s"},
		{"connection closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, "EOF"},
		{"gateway error", reply(502, html), false, "502: Sign in"},
		{"too many streams", apiError(429, "TOO_MANY_CONNECTIONS"), false, "429 TOO_MANY_CONNECTIONS"},
		{"page", reply(200, html, "Content-Type", "text/html"), false, "not an event stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := newWorld(t, grants.Options{Log: log.log()})
				w.serve(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Content-Type", "text/event-stream")
					tt.serve(rw, r)
				}, "stream")
				w.run()
				time.Sleep(10*time.Minute + 500*time.Millisecond)
				require.False(t, w.cache.Status().Connected)
				require.ErrorContains(t, w.cache.Status().Err, tt.text)
				lines := log.about("the live stream fails")
				require.Contains(t, lines[0], warning)
				require.Contains(t, lines[0], tt.text)
				require.NotContains(t, strings.Join(lines, "\n"), loud)
				require.Equal(t, tt.stands, len(lines) > 1, "logged once until it's over")

				w.serve(nil, "stream")
				time.Sleep(10 * time.Minute)
				require.True(t, w.cache.Status().Connected)
				require.NoError(t, w.cache.Status().Err)
				require.Len(t, log.about("INFO"), 1)
			})
		})
	}
}
