package hooktest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// An Event is a payload in an envelope that the test chooses. It implements
// [grantexhook.Payload], so you can pass it wherever this package takes a payload. A
// plain payload gets a new envelope each time. The zero value has no type and fails
// the test that uses it.
type Event struct {
	// ID is the event's id, for example "evt_01M844HHM3E3XXHXKZF40XG6DD". If it's
	// empty, each use gets a new one.
	ID string

	// Type is the event's type: Data's if empty. Set it for a type without a payload.
	Type string

	// CreatedAt is written in UTC with milliseconds. If it's zero, each use gets the
	// current time.
	CreatedAt time.Time

	// Data is the payload. If it's nil, the event has an empty object. It can't be an
	// Event or a [Raw].
	Data grantexhook.Payload

	// NewFields adds unknown fields to the envelope and to the data, as a later
	// Grantex may.
	NewFields bool
}

// NewEvent returns an event with a fixed envelope. Deliver it twice to deliver the
// same bytes twice, as Grantex does. If data is an [Event], NewEvent keeps its fields
// and fills in the empty ones.
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

// isNilPointer reports whether EventType would panic because its receiver is a value.
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

// Largest returns an event whose body has 154,241 bytes, the most that Grantex can
// send. It's a token.issued full of characters that JSON escapes.
func Largest() Event {
	const limit = 256 // characters that the API allows in a principal and in each of 100 scopes
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

// Raw is a body that is delivered unchanged, for example a recorded one or one that
// isn't an event. Like an [Event], you can pass it wherever this package takes a
// payload. A nil Raw is an empty body.
type Raw []byte

// EventType returns the type of the event in the body, or "" if it isn't an event.
func (r Raw) EventType() string { return r.envelope().Type }

func (r Raw) envelope() grantexhook.RawEvent {
	var e grantexhook.RawEvent
	if json.Unmarshal(r, &e) != nil {
		return grantexhook.RawEvent{}
	}
	return e
}

// Body returns the body with which Grantex would deliver p, for
// [grantexhook.Dispatcher.Dispatch]. It's compact JSON that escapes neither HTML nor
// printable characters. Unless p is an [Event] or a [Raw], the envelope has a new id
// and the current time.
//
// Body changes what p encodes to in three ways, at any depth. Use Raw to avoid them.
//   - Escapes that JSON doesn't need are undone, for example in a [json.RawMessage]
//     that contains \u00e9. Numbers and the order of members stay as they are.
//   - A time in a field whose name ends in At is written in UTC with milliseconds,
//     even if p holds it as a string.
//   - A nil in a field "scopes" becomes an empty list.
//
// It fails the test if p is nil, has no type, or doesn't encode to a JSON object.
func Body(t testing.TB, p grantexhook.Payload) []byte {
	t.Helper()
	body, err := encode(p)
	if err != nil {
		t.Fatalf("hooktest: %v", err)
	}
	return body
}

func encode(p grantexhook.Payload) ([]byte, error) {
	if raw, ok := p.(Raw); ok {
		return raw, nil
	}
	if p == nil {
		return nil, errors.New("the payload is nil; pass one, for example grantexhook.GrantRevoked{}")
	}
	e := NewEvent(p)
	if isNilPointer(e.Data) {
		return nil, fmt.Errorf("the payload is nil, a %T; pass a value", e.Data)
	}
	if e.Type == "" {
		return nil, fmt.Errorf(`the event has no type: EventType of %T returns ""; pass an Event with a Type`, p)
	}
	switch e.Data.(type) {
	case Event, *Event, Raw:
		return nil, fmt.Errorf("the Data of an Event is a %T; set it to a payload without an envelope", e.Data)
	}
	body, err := sender.Body(grantexhook.Event[any]{ID: e.ID, Type: e.Type, CreatedAt: e.CreatedAt, Data: e.Data})
	if err != nil {
		return nil, fmt.Errorf("the payload %T can't be delivered: %w", p, err)
	}
	if e.NewFields {
		return withNewFields(body), nil
	}
	return body, nil
}

// withNewFields adds to the end of both objects, since the data comes last in a body.
func withNewFields(body []byte) []byte {
	inner := bytes.TrimSuffix(body, []byte("}}"))
	if !bytes.HasSuffix(inner, []byte("{")) {
		inner = append(inner, ',')
	}
	return append(inner, `"addedLater":{"reason":["new",1,null]}},"addedToo":true}`...)
}
