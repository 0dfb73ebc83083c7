package grantexhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// The event types that an endpoint can subscribe to.
const (
	TypeGrantCreated = "grant.created"
	TypeGrantRevoked = "grant.revoked"
	TypeTokenIssued  = "token.issued"
)

// An Event is a Grantex event with data of type T. Unknown fields are ignored,
// and names match in any case, as in encoding/json.
//
// Events arrive in any order. For example, a token.issued or a grant.revoked may
// overtake the grant.created of its grant. CreatedAt may lie ten minutes before the
// delivery, so don't use it to judge freshness.
type Event[T any] struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"createdAt"`
	Data      T         `json:"data"`
}

// A RawEvent is an event whose data has not been decoded.
type RawEvent = Event[json.RawMessage]

// A Payload is the data of one event type. It must be a struct or a map, because
// the data is a JSON object. [On] calls EventType on the zero value, so it must be a
// method of the type itself, not of a pointer to it. It should return a constant such
// as "grant.created". Your own types can be payloads too, for example for an event or
// a field that this package doesn't know.
//
// encoding/json decodes a payload, but doesn't validate it: for example, a missing
// grantId becomes "". Names match in any case. If two match the same field, for
// example grantId and GrantID, the later one wins; a map keeps both. A number in a
// map[string]any, or in a field of type any, becomes a float64, which rounds integers
// above 2^53. Use int64, [json.Number] or [json.RawMessage] to keep every digit.
type Payload interface {
	EventType() string
}

// GrantCreated is the data of [TypeGrantCreated]: a principal granted scopes to an
// agent. ParentGrantID and DelegationDepth (1 to 3) are set if another agent
// delegated the grant.
type GrantCreated struct {
	GrantID         string    `json:"grantId"`
	AgentID         string    `json:"agentId"`
	PrincipalID     string    `json:"principalId"`
	Scopes          []string  `json:"scopes"`
	ExpiresAt       time.Time `json:"expiresAt"`
	DelegationDepth int       `json:"delegationDepth,omitempty"`
	ParentGrantID   string    `json:"parentGrantId,omitempty"`
}

// GrantRevoked is the data of [TypeGrantRevoked]: a grant has ended. If Cascade is
// set, the grants delegated from it have ended too. Grantex sends no events for
// those.
type GrantRevoked struct {
	GrantID string `json:"grantId"`
	Cascade bool   `json:"cascade"`
}

// TokenIssued is the data of [TypeTokenIssued]: a token of a grant was issued,
// including on refresh and delegation.
type TokenIssued struct {
	TokenID     string    `json:"tokenId"`
	GrantID     string    `json:"grantId"`
	AgentID     string    `json:"agentId"`
	PrincipalID string    `json:"principalId"`
	Scopes      []string  `json:"scopes"`
	ExpiresAt   time.Time `json:"expiresAt"`
}

// EventType returns [TypeGrantCreated].
func (GrantCreated) EventType() string { return TypeGrantCreated }

// EventType returns [TypeGrantRevoked].
func (GrantRevoked) EventType() string { return TypeGrantRevoked }

// EventType returns [TypeTokenIssued].
func (TokenIssued) EventType() string { return TypeTokenIssued }

// payloadType returns the event type whose data is a T, or panics if T can't be a payload.
func payloadType[T Payload]() string {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		panic(fmt.Sprintf("grantexhook: On[%v]: a payload must be a struct or a map, not a %v", t, t.Kind()))
	}
	var zero T
	eventType := zero.EventType()
	if eventType == "" {
		panic(fmt.Sprintf("grantexhook: On[%v]: EventType of the zero value is empty", t))
	}
	return eventType
}

// decodeRaw decodes everything except the data. With an error it also returns
// whatever it could decode. CreatedAt is zero if it can't be decoded: an event
// without a valid time may only be rejected if a handler asks for its time.
func decodeRaw(body []byte) (RawEvent, error) {
	var e struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		CreatedAt json.RawMessage `json:"createdAt"`
		Data      json.RawMessage `json:"data"`
	}
	err := unmarshal(body, &e, &e.ID, &e.Type)
	raw := RawEvent{ID: e.ID, Type: e.Type, Data: e.Data}
	raw.CreatedAt.UnmarshalJSON(e.CreatedAt) // leaves it zero if it fails
	return raw, err
}

// decodePayload decodes an event whose data is a T. itself reports whether T has its
// own decoder.
func decodePayload[T Payload](body []byte, itself bool) (*Event[T], error) {
	e := new(Event[T])
	err := unmarshal(body, e, &e.ID, &e.Type)
	// A T that isn't zero was decoded from an object, unless it decoded itself or
	// the body has data twice, which senders never do.
	if err == nil && (itself || reflect.ValueOf(&e.Data).Elem().IsZero()) {
		err = checkObject(body)
	}
	return e, err
}

// unmarshal decodes an event into v. It replaces the errors of the decoder, because
// their text quotes the body. id and eventType are fields of v.
func unmarshal[T any](body []byte, v *T, id, eventType *string) error {
	switch {
	case json.Unmarshal(body, v) != nil:
		return explain(body, reflect.TypeFor[T]())
	case *id == "":
		return &malformedError{"it has no id"}
	case *eventType == "":
		return &malformedError{"it has no type"}
	}
	return nil
}

// checkObject returns an error unless the data of the event is an object.
func checkObject(body []byte) error {
	e, err := decodeRaw(body)
	switch {
	case err != nil:
		return err
	case len(e.Data) == 0:
		return &malformedError{"it has no data"}
	case e.Data[0] != '{':
		return &malformedError{"data: " + kindOf(e.Data) + ", object wanted"}
	}
	return nil
}

// guessType returns what is probably the type of the event, since Grantex writes the
// id and the type first. This saves decoding the body twice.
func guessType(body []byte) []byte {
	_, after, _ := bytes.Cut(body, []byte(`"type":"`))
	guess, _, _ := bytes.Cut(after, []byte(`"`))
	return guess
}
