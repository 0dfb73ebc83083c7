package sender_test

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
	"grantex.dev/grantexhook/internal/sender"
)

// TestBodyOfCaptures checks that a decoded body is encoded like the recording, byte
// for byte.
func TestBodyOfCaptures(t *testing.T) {
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			body, err := sender.Body(eventOf(t, c))
			require.NoError(t, err)
			require.Equal(t, string(c.Body), string(body))
		})
	}
}

func TestBody(t *testing.T) {
	type object = map[string]any
	east := time.FixedZone("", 5400)
	type raw = json.RawMessage
	tests := []struct {
		name string
		data any
		want string
	}{
		{"nil", nil, `{}`},
		{"map", object{"a": 1}, `{"a":1}`},
		{"HTML", object{"a": "<&>"}, `{"a":"<&>"}`},
		{"line separators", object{"a": "\u2028\u2029"}, "{\"a\":\"\u2028\u2029\"}"},
		{"escaped backslash before what looks like an escape", object{"a": `\u2028\\u2029`}, `{"a":"\\u2028\\\\u2029"}`},
		{"no UTF-8", object{"a": "x\xff"}, `{"a":"x` + "\ufffd" + `"}`},
		{"controls", object{"a": "\x00\b\t\n\f\r\x1f\x7f"}, `{"a":"\u0000\b\t\n\f\r\u001f` + "\x7f" + `"}`},
		{"raw: letters", object{"a": raw(`"\u00e9\u00C9\u003c\u003E\u0026\/\u002f\u007f\u2028"`)}, `{"a":"éÉ<>&//` + "\x7f\u2028" + `"}`},
		{"raw: what must be escaped",
			object{"a": raw(`"\u0022\u005c\"\\\u0008\u0009\u000A\u000c\u000D\u0000\u001F\u000B\b\f"`)}, `{"a":"\"\\\"\\\b\t\n\f\r\u0000\u001f\u000b\b\f"}`},
		{"raw: surrogate pairs", object{"a": raw(`"\ud83d\ude00\uD83D\uDE00"`)}, `{"a":"😀😀"}`},
		{"raw: halves of pairs", object{"a": raw(`"\uD83D \uDE00\ude00 \ud83d\ud83d\ude00 \ud83d\u0041"`)}, `{"a":"\ud83d \ude00\ude00 \ud83d😀 \ud83dA"}`},
		{"raw: a backslash before what looks like an escape", object{"a": raw(`"\\u00e9\\\u00e9\u005cu00e9\u005c\u005c\/"`)}, `{"a":"\\u00e9\\é\\u00e9\\\\/"}`},
		{"raw: in keys, at any depth", object{"a": []any{object{"b": raw(`{"\u00e9":[{"\u003c":"\/"}]}`)}}}, `{"a":[{"b":{"é":[{"<":"/"}]}}]}`},
		{"raw: order, repetition, numbers",
			raw(`{ "b": 12345678901234567890.10, "a": [1E400, -0, 1e5], "b": null, "a": { } }`), `{"b":12345678901234567890.10,"a":[1E400,-0,1e5],"b":null,"a":{}}`},
		{"raw: no UTF-8", raw("{\"a\":\"x\xff\xfe\u2028\"}"), "{\"a\":\"x\ufffd\ufffd\u2028\"}"},
		{"raw: time", raw(`{"ends\u0041t":"2026-01-02T03:04:05\u002b01:00"}`), `{"endsAt":"2026-01-02T02:04:05.000Z"}`},
		{"of a MarshalJSON", object{"a": escaping{}}, `{"a":"é</"}`},
		{"json.Number", object{"a": json.Number("12345678901234567890")}, `{"a":12345678901234567890}`},
		{"whole second", object{"endsAt": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, `{"endsAt":"2026-01-02T03:04:05.000Z"}`},
		{"nanoseconds elsewhere", object{"endsAt": time.Date(2026, 1, 2, 3, 4, 5, 6_999_999, east)}, `{"endsAt":"2026-01-02T01:34:05.006Z"}`},
		{"deep", object{"a": []any{object{"endsAt": "2026-01-02T03:04:05+01:00", "scopes": nil}}}, `{"a":[{"endsAt":"2026-01-02T02:04:05.000Z","scopes":[]}]}`},
		{"no time", object{"endsAt": "2026-99-02T03:04:05Z"}, `{"endsAt":"2026-99-02T03:04:05Z"}`},
		{"time in a text", object{"text": `At":"2026-01-02T03:04:05Z"`}, `{"text":"At\":\"2026-01-02T03:04:05Z\""}`},
		{"no scopes", grantexhook.TokenIssued{}, `{"tokenId":"","grantId":"","agentId":"","principalId":"","scopes":[],"expiresAt":"0001-01-01T00:00:00.000Z"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Date(2026, 11, 23, 12, 1, 56, 0, time.UTC)
			body, err := sender.Body(grantexhook.Event[any]{ID: "evt_1", Type: "a.b", CreatedAt: at, Data: tt.data})
			require.NoError(t, err)
			require.Equal(t, `{"id":"evt_1","type":"a.b","createdAt":"2026-11-23T12:01:56.000Z","data":`+tt.want+`}`, string(body))
		})
	}
}

// escaping escapes more than it has to.
type escaping struct{}

func (escaping) MarshalJSON() ([]byte, error) { return []byte(`"\u00e9\u003c\/"`), nil }

func TestBodyRejects(t *testing.T) {
	tests := []struct {
		name string
		data any
		want string
	}{
		{"list", []int{1}, "must be a JSON object"},
		{"null", map[string]any(nil), "must be a JSON object"},
		{"no JSON", map[string]any{"a": math.NaN()}, "unsupported value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sender.Body(grantexhook.Event[any]{Data: tt.data})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{"", `\u2028`, `\\u2028`, "\u2028", `"scopes":null`, `At":"2026-01-02T03:04:05Z"`, "\x00\xff<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := sender.Body(grantexhook.Event[any]{Data: map[string]string{"a": text}})
		require.NoError(t, err)
		require.True(t, utf8.Valid(body))
		var got grantexhook.Event[map[string]string]
		require.NoError(t, json.Unmarshal(body, &got))
		require.Equal(t, string([]rune(text)), got.Data["a"], "bytes that aren't UTF-8 become U+FFFD")
	})
}

// FuzzBodyOfRaw checks that rewriting a raw payload doesn't change its value, that
// JSON.stringify could have written every escape that's left, and that rewriting it
// a second time has no effect.
func FuzzBodyOfRaw(f *testing.F) {
	for _, s := range []string{`"\u00e9\u003c\/"`, `"\ud83d\ude00\ud83d\\u0041\u0022\u0008"`, `{"\u0061":1e400,"a":[]}`, "\"\xff\u2028\"", `"scopes":null`} {
		f.Add(s)
	}
	stringified := regexp.MustCompile(`^(?:[^\\]|\\["\\bfnrt]|\\u00[01][0-9a-f]|\\ud[89a-f][0-9a-f]{2})*$`)
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		body, err := sender.Body(grantexhook.Event[any]{Data: map[string]any{"a": json.RawMessage(text)}})
		require.NoError(t, err)
		if strings.Contains(string(body), `At":"2`) || strings.Contains(string(body), `scopes":`) {
			return // is rewritten on purpose
		}
		require.True(t, utf8.Valid(body))
		require.Regexp(t, stringified, string(body))
		var got, again grantexhook.RawEvent
		require.NoError(t, json.Unmarshal(body, &got))
		require.Equal(t, exactly(t, `{"a":`+text+`}`), exactly(t, string(got.Data)))
		twice, err := sender.Body(grantexhook.Event[any]{Data: got.Data})
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(twice, &again))
		require.Equal(t, string(got.Data), string(again.Data))
	})
}

// exactly decodes JSON without rounding its numbers.
func exactly(t *testing.T, text string) (v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v))
	return v
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range capture.All() {
		e := eventOf(t, c)
		id := sender.NewID("evt_", e.CreatedAt)
		require.Regexp(t, `^evt_[0-9A-HJKMNP-TV-Z]{26}$`, id)
		require.False(t, seen[id])
		seen[id] = true
		// Grantex takes the time of the id up to a millisecond earlier.
		const upToTime = len("evt_") + 10
		earlier := sender.NewID("evt_", e.CreatedAt.Add(-time.Millisecond))
		require.Contains(t, []string{id[:upToTime], earlier[:upToTime]}, e.ID[:upToTime])
	}
}

func TestNewEvent(t *testing.T) {
	e := sender.NewEvent("a.b", 1)
	require.Equal(t, "a.b", e.Type)
	require.Equal(t, 1, e.Data)
	require.WithinDuration(t, time.Now(), e.CreatedAt, time.Minute)
	require.True(t, strings.HasPrefix(e.ID, "evt_"))
}
