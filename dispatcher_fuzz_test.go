package grantexhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

// createdWith returns a grant.created with these members.
func createdWith(members string) string {
	return `{"id":"evt_1","type":"grant.created","createdAt":"2026-11-23T12:01:56.867Z",` + members + `}`
}

func createdWithData(members string) string { return createdWith(`"data":{` + members + `}`) }

// malformedBodies aren't events, or don't fit the handler of grant.created.
var malformedBodies = []struct{ name, body string }{
	{"empty", ``},
	{"no JSON", `MARKER`},
	{"null", `null`},
	{"array", `["MARKER"]`},
	{"event in an array", `[` + createdWithData(``) + `]`},
	{"string", `"MARKER"`},
	{"number", `471147114711`},
	{"empty object", `{}`},
	{"cut off", `{"id":"evt_1","type":"grant.created","data":{"grantId":"MARKER"`},
	{"two events", createdWithData(``) + createdWithData(``)},
	{"more after the event", createdWithData(``) + `MARKER`},
	{"no UTF-8 escape", createdWithData(`"grantId":"\uMARKER"`)},
	{"no number", createdWithData(`"delegationDepth":471147114711MARKER`)},
	{"byte order mark", "\ufeff" + createdWithData(``)},

	{"no id", `{"type":"grant.created","data":{"grantId":"MARKER"}}`},
	{"id empty", `{"id":"","type":"grant.created","data":{"grantId":"MARKER"}}`},
	{"id null", `{"id":null,"type":"grant.created","data":{"grantId":"MARKER"}}`},
	{"id number", `{"id":471147114711,"type":"grant.created","data":{"grantId":"MARKER"}}`},
	{"id object", `{"id":{"MARKER":1},"type":"grant.created","data":{"grantId":"MARKER"}}`},
	{"no type", `{"id":"evt_1","data":{"grantId":"MARKER"}}`},
	{"type empty", `{"id":"evt_1","type":"","data":{"grantId":"MARKER"}}`},
	{"type null", `{"id":"evt_1","type":null,"data":{"grantId":"MARKER"}}`},
	{"type number", `{"id":"evt_1","type":471147114711,"data":{"grantId":"MARKER"}}`},
	{"type array", `{"id":"evt_1","type":["grant.created"],"data":{"grantId":"MARKER"}}`},
	{"id of an unknown type number", `{"id":471147114711,"type":"MARKER","data":{}}`},

	{"time no time", `{"id":"evt_1","type":"grant.created","createdAt":"MARKER","data":{}}`},
	{"time number", `{"id":"evt_1","type":"grant.created","createdAt":471147114711,"data":{}}`},
	{"time out of range", `{"id":"evt_1","type":"grant.created","createdAt":"2026-11-23T12:01:56.471147114711Z9","data":{}}`},
	{"data missing", createdWith(`"other":"MARKER"`)},
	{"data null", createdWith(`"data":null`)},
	{"data array", createdWith(`"data":[]`)},
	{"data array of an object", createdWith(`"data":[{"grantId":"MARKER"}]`)},
	{"data string", createdWith(`"data":"MARKER"`)},
	{"data string of an object", createdWith(`"data":"{\"grantId\":\"MARKER\"}"`)},
	{"data number", createdWith(`"data":471147114711`)},
	{"data true", createdWith(`"data":true`)},

	{"string where a number belongs", createdWithData(`"delegationDepth":"MARKER"`)},
	{"number too large", createdWithData(`"delegationDepth":471147114711471147114711`)},
	{"number no integer", createdWithData(`"delegationDepth":471147114711.5`)},
	{"number where a string belongs", createdWithData(`"grantId":471147114711`)},
	{"object where a string belongs", createdWithData(`"grantId":{"MARKER":1}`)},
	{"string where an array belongs", createdWithData(`"scopes":"MARKER"`)},
	{"number in an array of strings", createdWithData(`"scopes":["MARKER",471147114711]`)},
	{"time in data no time", createdWithData(`"expiresAt":"MARKER"`)},
	{"time in data a number", createdWithData(`"expiresAt":471147114711`)},
}

// TestMalformed checks that a malformed event doesn't reach a handler or the Store,
// and that no error, log or response quotes it.
func TestMalformed(t *testing.T) {
	for _, test := range malformedBodies {
		t.Run(test.name, func(t *testing.T) {
			var store spyStore
			var book logBook
			d := grantexhook.Dispatcher{Store: &store, Log: book.logger()}
			d.Other = func(context.Context, grantexhook.RawEvent) error {
				t.Error("Other was called")
				return nil
			}
			onAll(&d, func(context.Context, any) error {
				t.Error("a handler was called")
				return nil
			})
			err := d.Dispatch(t.Context(), []byte(test.body))
			require.ErrorIs(t, err, grantexhook.ErrMalformed)
			w := record(t.Context(), t, &d, []byte(test.body))
			require.Equal(t, http.StatusUnprocessableEntity, w.Code)
			require.Empty(t, store.calls)
			require.Equal(t, []string{"ERROR grantexhook: event malformed"}, book.lines(t))

			logged := strings.ReplaceAll(book.String(), `"type":"MARKER"`, "") // which may be logged
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), logged, w.Body.String()} {
				require.NotContains(t, text, marker)
				require.NotContains(t, text, markedNumber[:6])
			}
		})
	}
}

const decoy = `"type":"grant.created"`

// oddEvents are unusual but valid.
var oddEvents = []struct{ name, eventType, body string }{
	{"compact", grantexhook.TypeTokenIssued, `{"id":"i","type":"token.issued","createdAt":"2026-11-23T12:01:56.867Z","data":{"tokenId":"t"}}`},
	{"white space", grantexhook.TypeTokenIssued, " \n\t{ \r\n\"id\" : \"i\" , \"type\" : \"token.issued\" , \"data\" : { \"tokenId\" : \"t\" } } \n"},
	{"data first", grantexhook.TypeTokenIssued, `{"data":{"tokenId":"t"},"createdAt":"2026-11-23T12:01:56.867Z","type":"token.issued","id":"i"}`},
	{"offset in the time", grantexhook.TypeTokenIssued, `{"id":"i","type":"token.issued","createdAt":"2026-11-23T12:01:56.867+01:00","data":{"tokenId":"t"}}`},
	{"time null", grantexhook.TypeTokenIssued, `{"id":"i","type":"token.issued","createdAt":null,"data":{"tokenId":"t"}}`},
	{"escapes in the type", grantexhook.TypeGrantCreated, `{"id":"i","type":"grant\u002ecreate\u0064","data":{"grantId":"g"}}`},
	{"escapes in the key", grantexhook.TypeGrantCreated, `{"id":"i","\u0074ype":"grant.created","d\u0061ta":{"grantId":"g"}}`},
	{"keys in upper case", grantexhook.TypeGrantCreated, `{"ID":"i","TYPE":"grant.created","DATA":{"GRANTID":"g"}}`},
	{
		"unknown members", grantexhook.TypeTokenIssued,
		`{"v":2,"id":"i","nested":{"a":[1,{"b":null}]},"type":"token.issued","data":{"tokenId":"t","new":{"a":1}},"z":[]}`,
	},
	{"awkward characters", grantexhook.TypeGrantCreated, `{"id":"i\u2028\"\\","type":"grant.created","data":{"grantId":"\ud83d\udd11 \ud800 é"}}`},
	{"type twice", grantexhook.TypeTokenIssued, `{"id":"i",` + decoy + `,"type":"token.issued","data":{"tokenId":"t"}}`},
	{"type twice, the other way", grantexhook.TypeGrantCreated, `{"id":"i","type":"token.issued",` + decoy + `,"data":{"grantId":"g"}}`},

	{"decoy in data", grantexhook.TypeTokenIssued, `{"id":"i","data":{"tokenId":"t",` + decoy + `},"type":"token.issued"}`},
	{"decoy in data that fits", grantexhook.TypeTokenIssued, `{"id":"i","data":{` + decoy + `},"type":"token.issued"}`},
	{
		"decoy in data that doesn't fit", grantexhook.TypeTokenIssued,
		`{"id":"i","data":{"tokenId":"t","delegationDepth":"no",` + decoy + `},"type":"token.issued"}`,
	},
	{"decoy in another member", grantexhook.TypeTokenIssued, `{"v":{` + decoy + `},"id":"i","type":"token.issued","data":{"tokenId":"t"}}`},
	{"decoy in a string", grantexhook.TypeTokenIssued, `{"v":"\"type\":\"grant.created\"","id":"i","type":"token.issued","data":{"tokenId":"t"}}`},
	{"decoy as a value", grantexhook.TypeTokenIssued, `{"v":"type","w":"grant.created","id":"i","type":"token.issued","data":{"tokenId":"t"}}`},
	{"decoy behind", grantexhook.TypeTokenIssued, `{"id":"i","type":"token.issued","data":{"tokenId":"t",` + decoy + `}}`},
	{"decoy of the right type", grantexhook.TypeGrantCreated, `{"v":{` + decoy + `},"id":"i","type":"grant.created","data":{"grantId":"g"}}`},
	{"decoy of an unknown type", grantexhook.TypeGrantCreated, `{"v":{"type":"x"},"id":"i","type":"grant.created","data":{"grantId":"g"}}`},
	{"decoy without an end", grantexhook.TypeGrantCreated, `{"id":"i","data":{"grantId":"\"type\":"},"type":"grant.created"}`},
	{"decoy before an unknown type", "x", `{"v":{` + decoy + `},"id":"i","type":"x","data":{"grantId":"g"}}`},
	{"decoy before an unknown type without data", "x", `{"v":{` + decoy + `},"id":"i","type":"x"}`},
	{"unknown type with a quote", `a"b`, `{"id":"i","type":"a\"b","data":{"grantId":"g"}}`},
	{"unknown type in upper case", "GRANT.CREATED", `{"id":"i","type":"GRANT.CREATED","data":{"grantId":"g"}}`},
	{"unknown type with a space", "grant.created ", `{"id":"i","type":"grant.created ","data":{"grantId":"g"}}`},
}

// TestOddJSON checks that every way to write an event is recognized, including those that
// Grantex doesn't use today and those that look like another type.
func TestOddJSON(t *testing.T) {
	for _, test := range oddEvents {
		t.Run(test.name, func(t *testing.T) {
			var got []any
			keep := func(_ context.Context, e any) error {
				got = append(got, e)
				return nil
			}
			d := grantexhook.Dispatcher{Other: func(ctx context.Context, e grantexhook.RawEvent) error { return keep(ctx, e) }}
			onAll(&d, keep)
			require.NoError(t, d.Dispatch(t.Context(), []byte(test.body)))

			var want any
			switch test.eventType {
			case grantexhook.TypeGrantCreated:
				want = decoded[grantexhook.GrantCreated](t, test.body)
			case grantexhook.TypeTokenIssued:
				want = decoded[grantexhook.TokenIssued](t, test.body)
			default:
				want = decoded[json.RawMessage](t, test.body)
			}
			require.Equal(t, []any{want}, got)
			require.Equal(t, test.eventType, decoded[any](t, test.body).Type)
		})
	}
}

// decoded returns the event in body as encoding/json decodes it.
func decoded[T any](t *testing.T, body string) (e grantexhook.Event[T]) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(body), &e))
	return e
}

// malformedText matches every error of a malformed event.
var malformedText = regexp.MustCompile(`^grantexhook: malformed event: (the body is not JSON|it has no (id|type|data)|` +
	`(the body|id|type|createdAt|data(\.[A-Za-z]+)*): (object|array|string|number|bool|null), ` +
	`(object|array|string|int|bool|time\.Time|grantexhook_test\.[a-z]+) wanted)$`)

// FuzzDispatch checks that a Dispatcher handles a body if and only if encoding/json decodes
// it to an event with an id, a type and an object as data.
func FuzzDispatch(f *testing.F) {
	for _, c := range capture.All() {
		if len(c.Body) < 10_000 { // larger ones slow the fuzzer down
			f.Add(c.Body)
		}
	}
	for _, test := range malformedBodies {
		f.Add([]byte(test.body))
	}
	for _, test := range oddEvents {
		f.Add([]byte(test.body))
	}
	for _, eventType := range []string{"bag", "flagged", "verbatim", "texty"} {
		f.Add(newEvent(eventType, `{"flag":true}`))
		f.Add(newEvent(eventType, `"flag"`))
	}
	for _, at := range looseTimes {
		f.Add(fmt.Appendf(nil, `{"id":"i","type":"x","createdAt":%s}`, at))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var store spyStore
		var got []any
		keep := func(_ context.Context, e any) error {
			got = append(got, e)
			return nil
		}
		d := grantexhook.Dispatcher{Store: &store, Other: func(ctx context.Context, e grantexhook.RawEvent) error { return keep(ctx, e) }}
		onAll(&d, keep)
		grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[bag]) error { return keep(ctx, e) })
		grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[flagged]) error { return keep(ctx, e) })
		grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[verbatim]) error { return keep(ctx, e) })
		grantexhook.On(&d, func(ctx context.Context, e grantexhook.Event[texty]) error { return keep(ctx, e) })
		err := d.Dispatch(t.Context(), body)

		if objects, members := membersOf(body, "data"); members > 1 && objects > 0 {
			return // whose data counts is left to encoding/json
		}
		if _, members := membersOf(body, "createdAt"); members > 1 {
			return // which createdAt counts is left to it too
		}
		if want := plainly(body); want != nil {
			require.NoError(t, err)
			require.Equal(t, []any{want}, got)
			require.Equal(t, "Claim Done", store.methods())
			return
		}
		require.ErrorIs(t, err, grantexhook.ErrMalformed)
		require.Regexp(t, malformedText, err.Error())
		require.Empty(t, got)
		require.Empty(t, store.calls)
	})
}

// plainly returns the event in body, found by decoding twice, or nil.
func plainly(body []byte) any {
	var raw struct {
		ID, Type  string
		CreatedAt any
		Data      json.RawMessage
	}
	if json.Unmarshal(body, &raw) != nil || raw.ID == "" || raw.Type == "" {
		return nil
	}
	switch raw.Type {
	case grantexhook.TypeGrantCreated:
		return plainlyAs[grantexhook.GrantCreated](body)
	case grantexhook.TypeGrantRevoked:
		return plainlyAs[grantexhook.GrantRevoked](body)
	case grantexhook.TypeTokenIssued:
		return plainlyAs[grantexhook.TokenIssued](body)
	case "bag":
		return plainlyAs[bag](body)
	case "flagged":
		return plainlyAs[flagged](body)
	case "verbatim":
		return plainlyAs[verbatim](body)
	case "texty":
		return plainlyAs[texty](body)
	}
	text, _ := raw.CreatedAt.(string)
	var at struct{ At time.Time }
	if quoted, err := json.Marshal(map[string]string{"at": text}); err != nil || json.Unmarshal(quoted, &at) != nil {
		at.At = time.Time{}
	}
	return grantexhook.RawEvent{ID: raw.ID, Type: raw.Type, CreatedAt: at.At, Data: raw.Data}
}

func plainlyAs[T any](body []byte) any {
	var e grantexhook.Event[T]
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	if objects, _ := membersOf(body, "data"); objects == 0 {
		return nil
	}
	return e
}

// membersOf counts the members that encoding/json matches to a name, and how many of
// them are objects.
func membersOf(body []byte, want string) (objects, members int) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return 0, 0
	}
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return 0, 0
		}
		if strings.EqualFold(name.(string), want) {
			members++
			if value[0] == '{' {
				objects++
			}
		}
	}
	return objects, members
}
