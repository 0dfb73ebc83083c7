package grantexhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// A catalog is a payload with a field of every kind.
type catalog struct {
	base
	CreatedAt     int64   `json:"created_at"`
	Small         int8    `json:"small"`
	Ratio         float32 `json:"ratio"`
	Untagged      int     // its member may be written in any case
	untagged      bool    // which encoding/json doesn't see
	Quoted        int8    `json:"quoted,string"`
	QuotedText    string  `json:"quotedText,omitempty,string"`
	QuotedPointer *bool   `json:"quotedPointer,string"`
	//lint:ignore SA5008 encoding/json ignores the option here, and so must the error
	QuotedList      []string            `json:"quotedList,string"`
	Number          json.Number         `json:"number"`
	Wait            time.Duration       `json:"wait"`
	At              *time.Time          `json:"at"`
	List            []string            `json:"list"`
	Pair            [2]int              `json:"pair"`
	Bytes           []byte              `json:"bytes"`
	Inner           *inner              `json:"inner"`
	Twice           **inner             `json:"twice"`
	Inners          []inner             `json:"inners"`
	ByName          map[string]inner    `json:"byName"`
	ByNumber        map[int]string      `json:"byNumber"`
	Counts          map[string]int      `json:"counts"`
	Stringer        fmt.Stringer        `json:"stringer"`
	Texty           texty               `json:"texty"`
	Quoting         quoting             `json:"quoting"`
	Twin            string              `json:"twin"`
	TwinInUpperCase int                 `json:"TWIN"`
	Dotted          int                 `json:"dot.ted"`
	PromotedToo     int                 `json:"PROMOTED"`
	Any             any                 `json:"any"`
	Embedded        struct{ ID string } `json:"embedded"`
	Hidden          int                 `json:"-"`
}

type base struct {
	Promoted string `json:"promoted"`
	Little   string `json:"small"` // which a field of catalog hides
}

type inner struct {
	Depth int     `json:"depth"`
	Next  *inner  `json:"next"`
	Nexts []inner `json:"nexts"`
}

// quoting is a type whose own error quotes all that it can.
type quoting struct{ Kind string }

func (*quoting) UnmarshalJSON(b []byte) error {
	return &json.UnmarshalTypeError{Value: string(b), Field: string(b), Struct: string(b), Type: reflect.TypeFor[int]()}
}

func (catalog) EventType() string { return "catalog" }

var _ = catalog{untagged: true}

// misfits are the data of events that don't fit a catalog.
var misfits = []struct{ name, data, want string }{
	{"string for a number", `{"created_at":"MARKER"}`, "data.created_at: string, int64 wanted"},
	{"object for a number", `{"created_at":{"MARKER":1}}`, "data.created_at: object, int64 wanted"},
	{"array for a number", `{"created_at":["MARKER"]}`, "data.created_at: array, int64 wanted"},
	{"bool for a number", `{"created_at":true}`, "data.created_at: bool, int64 wanted"},
	{"false for a number", `{"created_at":false}`, "data.created_at: bool, int64 wanted"},
	{"number too large", `{"small":471147}`, "data.small: number, int8 wanted"},
	{"number too large for any", `{"ratio":1e471}`, "data.ratio: number, float32 wanted"},
	{"number that isn't an integer", `{"created_at":471147.5}`, "data.created_at: number, int64 wanted"},
	{"string for a duration", `{"wait":"471147s"}`, "data.wait: string, int64 wanted"},
	{"string for a json.Number", `{"number":"MARKER"}`, "data.number: string, json.Number wanted"},
	{"object for a json.Number", `{"number":{"MARKER":1}}`, "data.number: object, json.Number wanted"},
	{"string that isn't a number", `{"quoted":"MARKER"}`, "data.quoted: string, quoted int8 wanted"},
	{"quoted number too large", `{"quoted":"471147"}`, "data.quoted: string, quoted int8 wanted"},
	{"number that should be quoted", `{"quoted":4}`, "data.quoted: number, quoted int8 wanted"},
	{"string that should be quoted twice", `{"quotedText":"MARKER"}`, "data.quotedText: string, quoted string wanted"},
	{"behind a pointer, not quoted", `{"quotedPointer":true}`, "data.quotedPointer: bool, quoted bool wanted"},
	{"option on a list, which ignores it", `{"quotedList":"MARKER"}`, "data.quotedList: string, array wanted"},
	{"one quoted right, another wrong", `{"quoted":"47","small":"MARKER"}`, "data.small: string, int8 wanted"},
	{"string that isn't a time", `{"at":"MARKER"}`, "data.at: string, time.Time wanted"},
	{"number for a time", `{"at":471147}`, "data.at: number, time.Time wanted"},
	{"string for a list", `{"list":"MARKER"}`, "data.list: string, array wanted"},
	{"number in a list", `{"list":["MARKER",471147]}`, "data.list: number, string wanted"},
	{"object for an array", `{"pair":{"MARKER":1}}`, "data.pair: object, array wanted"},
	{"string in an array", `{"pair":[1,"MARKER"]}`, "data.pair: string, int wanted"},
	{"number for bytes", `{"bytes":471147}`, "data.bytes: number, []uint8 wanted"},
	{"string that isn't base64", `{"bytes":"*MARKER*"}`, "data.bytes: string, []uint8 wanted"},
	{"number for a struct", `{"inner":471147}`, "data.inner: number, object wanted"},
	{"in a struct", `{"inner":{"depth":"MARKER"}}`, "data.inner.depth: string, int wanted"},
	{"behind two pointers", `{"twice":{"depth":"MARKER"}}`, "data.twice.depth: string, int wanted"},
	{"in a struct in a struct", `{"inner":{"next":{"next":{"depth":"MARKER"}}}}`, "data.inner.next.next.depth: string, int wanted"},
	{"in a struct in a list", `{"inners":[{"depth":1},{"nexts":[{"depth":"MARKER"}]}]}`, "data.inners.nexts.depth: string, int wanted"},
	{"list for a map", `{"byName":["MARKER"]}`, "data.byName: array, object wanted"},
	{"in a map", `{"counts":{"MARKER":"471147"}}`, "data.counts: string, int wanted"},
	{"in a struct in a map", `{"byName":{"MARKER":{"depth":"MARKER"}}}`, "data.byName.depth: string, int wanted"},
	{"key like a field", `{"byName":{"next":{"depth":"MARKER"}}}`, "data.byName.depth: string, int wanted"},
	{"key with a dot", `{"byName":{"MARKER.next":{"depth":"MARKER"}}}`, "data.byName.depth: string, int wanted"},
	{"key that isn't a number", `{"byNumber":{"MARKER":"x"}}`, "data.byNumber: object, map[int]string wanted"},
	{"anything for an interface", `{"stringer":{"MARKER":1}}`, "data.stringer: object, interface wanted"},
	{"number for a text", `{"texty":471147}`, "data.texty: number, grantexhook_test.texty wanted"},
	{"error of a field's own", `{"quoting":"MARKER"}`, "data.quoting: string, grantexhook_test.quoting wanted"},
	{"null that a field rejects", `{"quoting":null}`, "data.quoting: null, grantexhook_test.quoting wanted"},
	{"object that a field rejects", `{"quoting":{"kind":471147}}`, "data.quoting: object, grantexhook_test.quoting wanted"},
	{"without a tag", `{"Untagged":"MARKER"}`, "data.Untagged: string, int wanted"},
	{"in another case", `{"untagged":"MARKER"}`, "data.Untagged: string, int wanted"},
	{"with a tag in another case", `{"CREATED_AT":"MARKER"}`, "data.created_at: string, int64 wanted"},
	{"in the case of another", `{"TWIN":"MARKER"}`, "data.TWIN: string, int wanted"},
	{"in the case of neither", `{"Twin":471147}`, "data.twin: number, string wanted"},
	{"with a dot", `{"dot.ted":"MARKER"}`, "data.dot.ted: string, int wanted"},
	{"promoted", `{"promoted":471147}`, "data.promoted: number, string wanted"},
	{"in a struct without a name", `{"embedded":{"id":471147}}`, "data.embedded.ID: number, string wanted"},
	{"several", `{"any":"MARKER","inner":471147,"created_at":"MARKER"}`, "data.created_at: string, int64 wanted"},
	{"twice", `{"small":"MARKER","small":"MARKER"}`, "data.small: string, int8 wanted"},
	{"deeper than anyone nests", `{"inner":` + strings.Repeat(`{"next":`, 500) + `"MARKER"` + strings.Repeat(`}`, 501),
		"data.inner." + strings.Repeat("next.", 13) + "next: object, grantexhook_test.inner wanted"},
	{"array", `["MARKER"]`, "data: array, object wanted"},
	{"string", `"MARKER"`, "data: string, object wanted"},
	{"null", `null`, "data: null, object wanted"},
}

// TestMisfits checks that the error of an event that doesn't decode names the
// field by its name in Go, the kind of the value and the kind that is wanted, and
// doesn't quote the body.
func TestMisfits(t *testing.T) {
	for _, test := range misfits {
		t.Run(test.name, func(t *testing.T) {
			requireMalformed(t, newEvent("catalog", test.data), test.want)
		})
	}
}

// TestMisfitsOfTheEnvelope checks the same for the fields of every event.
func TestMisfitsOfTheEnvelope(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"empty", ``, "the body is not JSON"},
		{"not JSON", `{"id":MARKER}`, "the body is not JSON"},
		{"array", ` ["MARKER"]`, "the body: array, object wanted"},
		{"array on another line", "\t\r\n[\"MARKER\"]", "the body: array, object wanted"},
		{"string", `"MARKER"`, "the body: string, object wanted"},
		{"id missing", `{"type":"catalog","data":{}}`, "it has no id"},
		{"id number", `{"id":471147,"type":"catalog","data":{}}`, "id: number, string wanted"},
		{"id in upper case", `{"ID":471147,"type":"catalog","data":{}}`, "id: number, string wanted"},
		{"type missing", `{"id":"i","data":{}}`, "it has no type"},
		{"type array", `{"id":"i","type":["catalog"],"data":{}}`, "type: array, string wanted"},
		{"data missing", `{"id":"i","type":"catalog"}`, "it has no data"},
		{"time number", `{"id":"i","type":"catalog","createdAt":471147,"data":{}}`, "createdAt: number, time.Time wanted"},
		{"time bool", `{"id":"i","type":"catalog","createdAt":true,"data":{}}`, "createdAt: bool, time.Time wanted"},
		{"time empty", `{"id":"i","type":"catalog","createdAt":"","data":{}}`, "createdAt: string, time.Time wanted"},
		{"time without zone", `{"id":"i","type":"catalog","createdAt":"2026-11-23T12:01:56","data":{}}`, "createdAt: string, time.Time wanted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { requireMalformed(t, []byte(test.body), test.want) })
	}
}

// requireMalformed checks the error of Dispatch, that it can be recognized without this
// package, and that the log has the same text.
func requireMalformed(t *testing.T, body []byte, want string) {
	t.Helper()
	var book logBook
	d := grantexhook.Dispatcher{Log: book.logger()}
	on[catalog](&d, nil)
	err := d.Dispatch(t.Context(), body)
	require.EqualError(t, err, "grantexhook: malformed event: "+want)
	require.ErrorIs(t, err, grantexhook.ErrMalformed)
	var m interface{ Malformed() bool }
	require.ErrorAs(t, fmt.Errorf("wrapped: %w", err), &m)
	require.True(t, m.Malformed())

	require.Equal(t, http.StatusUnprocessableEntity, record(t.Context(), t, &d, body).Code)
	var line struct{ Error string }
	require.NoError(t, json.Unmarshal(book.Bytes(), &line))
	require.Equal(t, err.Error(), line.Error)
	require.NotContains(t, book.String()+fmt.Sprintf("%+v %#v %q", err, err, err), marker)
	require.NotContains(t, book.String(), markedNumber[:6])
}

// TestMalformedIsAboutTheEvent checks that other errors don't count as malformed events.
func TestMalformedIsAboutTheEvent(t *testing.T) {
	tests := []struct {
		name string
		err  error // of the handler
	}{
		{"nil", nil},
		{"the handler's", errors.New("own")},
		{"ErrMalformed from a handler", grantexhook.ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := grantexhook.Dispatcher{Log: slog.New(slog.DiscardHandler)}
			onAll(&d, func(context.Context, any) error { return test.err })
			err := d.Dispatch(t.Context(), createdEvent)
			require.True(t, err == test.err)
			require.False(t, errors.As(err, new(interface{ Malformed() bool })))
		})
	}
}
