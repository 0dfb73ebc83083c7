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
		require.NotEqual(t, hooktest.Body(t, revoked), hooktest.Body(t, revoked), "each has another id")
	})
}

// budget is the payload of a type that grantexhook doesn't know.
type budget map[string]any

func (budget) EventType() string { return "budget.exhausted" }

func TestBodyOfEvents(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 1, 56, 867_000_000, time.FixedZone("", 3600))
	e := hooktest.Event{ID: "evt_1", CreatedAt: at}
	escaped := budget{"of": json.RawMessage(`{"\u00e9": "\u003c\/", "a": 12345678901234567890}`)}
	const added = `"addedLater":{"reason":["new",1,null]}},"addedToo":true}`
	tests := []struct {
		name   string
		change func(e *hooktest.Event)
		typ    string
		data   string // and the rest of the body
	}{
		{"plain", func(e *hooktest.Event) { e.Data = revoked }, "grant.revoked", `{"grantId":"grnt_1","cascade":true}}`},
		{"new fields", func(e *hooktest.Event) { e.Data, e.NewFields = revoked, true }, "grant.revoked", `{"grantId":"grnt_1","cascade":true,` + added},
		{"a type without payload", func(e *hooktest.Event) { e.Type = "x.y" }, "x.y", `{}}`},
		{"new fields alone", func(e *hooktest.Event) { e.Type, e.NewFields = "x.y", true }, "x.y", `{` + added},
		{"another type", func(e *hooktest.Event) { e.Type, e.Data = "x.y", revoked }, "x.y", `{"grantId":"grnt_1","cascade":true}}`},
		{"escapes of the user", func(e *hooktest.Event) { e.Data = escaped }, "budget.exhausted", `{"of":{"é":"</","a":12345678901234567890}}}`},
		{"payload of the user", func(e *hooktest.Event) { e.Data = budget{"of": "<a&b>"} }, "budget.exhausted", `{"of":"<a&b>"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := e
			tt.change(&e)
			want := `{"id":"evt_1","type":"` + tt.typ + `","createdAt":"2026-11-23T12:01:56.867Z","data":` + tt.data
			require.Equal(t, want, string(hooktest.Body(t, e)))
			require.Equal(t, want, string(hooktest.Body(t, &e)))
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
	require.Equal(t, []byte("not an event"), hooktest.Body(t, hooktest.Raw("not an event")))
	require.Empty(t, hooktest.Raw("not an event").EventType())
}

// TestLargest checks that the largest event is like the recorded one.
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

// list is a payload that isn't an object.
type list []int

func (list) EventType() string { return "list.made" }

// untyped is a payload without a type.
type untyped struct{}

func (untyped) EventType() string { return "" }

func TestBodyRejects(t *testing.T) {
	tests := []struct {
		name    string
		payload grantexhook.Payload
		want    string
	}{
		{"nil", nil, "the payload is nil; pass one"},
		{"nil pointer", (*grantexhook.GrantRevoked)(nil), "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer to an Event", (*hooktest.Event)(nil), "the payload is nil, a *hooktest.Event"},
		{"nil pointer in an Event", hooktest.Event{Data: (*grantexhook.GrantRevoked)(nil)}, "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer in an envelope", hooktest.NewEvent((*grantexhook.GrantRevoked)(nil)), "the payload is nil, a *grantexhook.GrantRevoked"},
		{"nil pointer to a body", (*hooktest.Raw)(nil), "the payload is nil, a *hooktest.Raw"},
		{"no type", untyped{}, "no type: EventType of hooktest_test.untyped"},
		{"zero Event", hooktest.Event{}, "no type"},
		{"not an object", list{1}, "hooktest_test.list can't be delivered"},
		{"not JSON", budget{"f": func() {}}, "hooktest_test.budget can't be delivered"},
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
