package hooktest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// An Event is a payload whose envelope the test chooses. It is a
// [grantexhook.Payload] itself, so that it can stand wherever this package takes
// one; the plain payload gets a new envelope each time. The zero value has no
// type, and fails the test that uses it.
type Event struct {
	ID        string              // a new one for each use if empty; like "evt_01M844HHM3E3XXHXKZF40XG6DD"
	Type      string              // that of Data if empty; set it for a type that has no payload
	CreatedAt time.Time           // that of the use if zero; written in UTC with milliseconds
	Data      grantexhook.Payload // an empty object if nil

	// NewFields adds fields that nobody knows to the envelope and to the data,
	// as a later Grantex may.
	NewFields bool
}

// NewEvent returns an event with data in an envelope that stays: to deliver it
// twice is to deliver the same bytes, as Grantex does. If data is an [Event]
// itself, it is that one with what it leaves out.
func NewEvent(data grantexhook.Payload) Event {
	switch e := data.(type) {
	case Event:
		return fill(e)
	case *Event:
		if e != nil {
			return fill(*e)
		}
	}
	return fill(Event{Data: data})
}

// EventType returns the type of the event.
func (e Event) EventType() string {
	if e.Type == "" && e.Data != nil && !isNilPointer(e.Data) {
		return e.Data.EventType()
	}
	return e.Type
}

// isNilPointer reports what EventType, as a method of the type itself, panics on.
func isNilPointer(p grantexhook.Payload) bool {
	v := reflect.ValueOf(p)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func fill(e Event) Event {
	now := sender.NewEvent(e.EventType(), nil)
	e.ID = cmp.Or(e.ID, now.ID)
	e.Type = now.Type
	if e.CreatedAt.IsZero() {
		e.CreatedAt = now.CreatedAt
	}
	return e
}

// Largest returns an event whose body has 154,241 bytes, the most that Grantex
// can make: a token.issued that is full of characters which JSON has to escape.
func Largest() Event {
	const limit = 256 // of the API, in characters, for the principal and for each of 100 scopes
	scopes := make([]string, 100)
	for i := range scopes {
		scopes[i] = strings.Repeat("\x01", limit-3) + fmt.Sprintf("%03d", i)
	}
	now := time.Now()
	return NewEvent(grantexhook.TokenIssued{
		TokenID:     sender.NewID("tok_", now),
		GrantID:     sender.NewID("grnt_", now),
		AgentID:     sender.NewID("ag_", now),
		PrincipalID: strings.Repeat("\x01", limit),
		Scopes:      scopes,
		ExpiresAt:   now.Add(24 * time.Hour),
	})
}

// Raw is a body to be delivered as it stands: one that was recorded, or one that
// is no event at all. Like [Event] it can stand wherever this package takes a
// payload.
type Raw []byte

// EventType returns the type of the event in the body, or "" if there is none.
func (r Raw) EventType() string {
	var e grantexhook.RawEvent
	if json.Unmarshal(r, &e) != nil {
		return ""
	}
	return e.Type
}

// Body returns the body with which Grantex would deliver p: compact JSON, in
// which neither HTML nor any printable character is escaped, in an envelope with
// a new id and the time of now unless p is an [Event] or [Raw]. It is what
// [grantexhook.Dispatcher.Dispatch] takes.
//
// This also applies to what p encodes itself, for example a [json.RawMessage] that
// contains \u00e9. Numbers and the order of members stay as they are.
//
// At any depth of p, and whatever its type, a time in a field whose name ends in
// At is written in UTC with milliseconds, even if p has it as a string, and nil
// in a field "scopes" as an empty list. What has to stay as it is can be [Raw].
//
// It fails the test if p is nil, has no type, or is not encoded as an object.
func Body(t testing.TB, p grantexhook.Payload) []byte {
	t.Helper()
	if raw, ok := p.(Raw); ok {
		return raw
	}
	if p == nil {
		t.Fatalf("hooktest: the payload is nil")
	}
	e := NewEvent(p)
	if isNilPointer(e.Data) {
		t.Fatalf("hooktest: the payload is nil, a %T", e.Data)
	}
	if e.Type == "" {
		t.Fatalf("hooktest: the event has no type: EventType of %T returns none", p)
	}
	var data any = e.Data
	switch data.(type) {
	case Event, *Event, Raw:
		t.Fatalf("hooktest: the Data of an Event is %T; it must be a payload without an envelope", data)
	}
	body, err := sender.Body(grantexhook.Event[any]{ID: e.ID, Type: e.Type, CreatedAt: e.CreatedAt, Data: data})
	if err != nil {
		t.Fatalf("hooktest: the payload %T cannot be delivered: %v", p, err)
	}
	if e.NewFields {
		return withNewFields(body)
	}
	return body
}

// withNewFields adds to the end of both objects: the data comes last in a body.
func withNewFields(body []byte) []byte {
	inner := bytes.TrimSuffix(body, []byte("}}"))
	if !bytes.HasSuffix(inner, []byte("{")) {
		inner = append(inner, ',')
	}
	return append(inner, `"addedLater":{"reason":["new",1,null]}},"addedToo":true}`...)
}
