package hooktest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
	"grantex.dev/grantexhook/internal/capture"
)

var revoked = grantexhook.GrantRevoked{GrantID: "grnt_1", Cascade: true}

func TestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1_002_003 * time.Microsecond)
		require.Regexp(t,
			`^{"id":"evt_[0-9A-Z]{26}","type":"grant.revoked","createdAt":"2000-01-01T00:00:01.002Z","data":{"grantId":"grnt_1","cascade":true}}$`,
			string(hooktest.Body(t, revoked)))
		require.NotEqual(t, hooktest.Body(t, revoked), hooktest.Body(t, revoked), "each is another event")
	})
}

// budget is the payload of a type that this version does not know.
type budget map[string]any

func (budget) EventType() string { return "budget.exhausted" }

func TestBodyOfEvents(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 1, 56, 867_000_000, time.FixedZone("", 3600))
	e := hooktest.Event{ID: "evt_1", CreatedAt: at}
	tests := []struct {
		name   string
		change func(e *hooktest.Event)
		want   string
	}{
		{"plain", func(e *hooktest.Event) { e.Data = revoked }, `"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"grnt_1","cascade":true}}`},
		{"new fields", func(e *hooktest.Event) { e.Data = revoked; e.NewFields = true }, `"type":"grant.revoked","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"grnt_1","cascade":true,"addedLater":{"reason":["new",1,null]}},"addedToo":true}`},
		{"a type without payload", func(e *hooktest.Event) { e.Type = "x.y" }, `"type":"x.y","createdAt":"2026-11-23T12:01:56.867Z","data":{}}`},
		{"new fields alone", func(e *hooktest.Event) { e.Type = "x.y"; e.NewFields = true }, `"type":"x.y","createdAt":"2026-11-23T12:01:56.867Z","data":{"addedLater":{"reason":["new",1,null]}},"addedToo":true}`},
		{"another type", func(e *hooktest.Event) { e.Type = "x.y"; e.Data = revoked }, `"type":"x.y","createdAt":"2026-11-23T12:01:56.867Z","data":{"grantId":"grnt_1","cascade":true}}`},
		{"escapes of the user", func(e *hooktest.Event) {
			e.Data = budget{"of": json.RawMessage(`{"\u00e9": "\u003c\/", "a": 12345678901234567890}`)}
		}, `"type":"budget.exhausted","createdAt":"2026-11-23T12:01:56.867Z","data":{"of":{"é":"</","a":12345678901234567890}}}`},
		{"payload of the user", func(e *hooktest.Event) { e.Data = budget{"of": "<a&b>"} }, `"type":"budget.exhausted","createdAt":"2026-11-23T12:01:56.867Z","data":{"of":"<a&b>"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := e
			tt.change(&e)
			require.Equal(t, `{"id":"evt_1",`+tt.want, string(hooktest.Body(t, e)))
			require.Equal(t, `{"id":"evt_1",`+tt.want, string(hooktest.Body(t, &e)))
			require.True(t, json.Valid(hooktest.Body(t, e)))
		})
	}
}

func TestNewEventStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, p := range []grantexhook.Payload{revoked, hooktest.Event{Type: "x.y", NewFields: true}, &hooktest.Event{Data: revoked}} {
			e := hooktest.NewEvent(p)
			first := hooktest.Body(t, e)
			time.Sleep(time.Minute)
			require.Equal(t, string(first), string(hooktest.Body(t, e)))
			require.Equal(t, e, hooktest.NewEvent(e))
			require.Equal(t, p.EventType(), e.Type)
		}
	})
}

func TestRaw(t *testing.T) {
	for _, c := range capture.All() {
		var e grantexhook.RawEvent
		require.NoError(t, json.Unmarshal(c.Body, &e))
		require.Equal(t, c.Body, hooktest.Body(t, hooktest.Raw(c.Body)))
		require.Equal(t, e.Type, hooktest.Raw(c.Body).EventType())
	}
	require.Equal(t, []byte("no event"), hooktest.Body(t, hooktest.Raw("no event")))
	require.Empty(t, hooktest.Raw("no event").EventType())
}

// TestLargest holds that the largest event is made like the one that was
// recorded.
func TestLargest(t *testing.T) {
	recorded := capture.Named("awkward.max-size").Body
	body := hooktest.Body(t, hooktest.Largest())
	require.Len(t, body, len(recorded))
	require.Equal(t, principalAndScopes(t, recorded), principalAndScopes(t, body))
}

func principalAndScopes(t *testing.T, body []byte) []string {
	t.Helper()
	var e grantexhook.Event[grantexhook.TokenIssued]
	require.NoError(t, json.Unmarshal(body, &e))
	return append(e.Data.Scopes, e.Data.PrincipalID)
}

// list is a payload that is no object.
type list []int

func (list) EventType() string { return "list.made" }

// untyped is a payload that does not say what it is.
type untyped struct{}

func (untyped) EventType() string { return "" }

func TestBodyRefuses(t *testing.T) {
	tests := []struct {
		name    string
		payload grantexhook.Payload
		want    string
	}{
		{"nil", nil, "the payload is nil"},
		{"nil pointer", (*grantexhook.GrantRevoked)(nil), "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer to an Event", (*hooktest.Event)(nil), "the payload is nil, a *hooktest.Event"},
		{"nil pointer in an Event", hooktest.Event{Data: (*grantexhook.GrantRevoked)(nil)}, "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer in an envelope", hooktest.NewEvent((*grantexhook.GrantRevoked)(nil)), "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer to a body", (*hooktest.Raw)(nil), "the payload is nil, a *hooktest.Raw"},
		{"no type", untyped{}, "no type: EventType of hooktest_test.untyped"},
		{"zero Event", hooktest.Event{}, "no type"},
		{"no object", list{1}, "hooktest_test.list cannot be delivered"},
		{"no JSON", budget{"f": func() {}}, "hooktest_test.budget cannot be delivered"},
		{"an Event in an Event", hooktest.Event{Data: hooktest.NewEvent(revoked)}, "without an envelope"},
		{"an Event in an Event by pointer", hooktest.Event{Data: &hooktest.Event{Data: revoked}}, "without an envelope"},
		{"a body in an Event", hooktest.Event{Type: "x.y", Data: hooktest.Raw("{}")}, "without an envelope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requireFatal(t, tt.want, func(t testing.TB) { hooktest.Body(t, tt.payload) })
			requireFatal(t, tt.want, func(t testing.TB) { hooktest.NewRequest(t, "secret", tt.payload) })
			requireFatal(t, tt.want, func(t testing.TB) {
				hooktest.Sender{Secret: "secret", URL: "http://127.0.0.1:1"}.Deliver(t, tt.payload)
			})
		})
	}
}

func TestBodyDoesNotQuoteThePayload(t *testing.T) {
	got := fake(func(t testing.TB) { hooktest.Body(t, budget{"token": "sesame", "f": func() {}}) })
	require.False(t, strings.Contains(got.fatal, "sesame"), got.fatal)
}
