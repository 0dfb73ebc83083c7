package grantexhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// The types of event that Grantex can be asked to send.
const (
	TypeGrantCreated = "grant.created"
	TypeGrantRevoked = "grant.revoked"
	TypeTokenIssued  = "token.issued"
)

// An Event is what Grantex says has happened. Fields that Grantex may add to it
// are ignored.
//
// Names match in any case, as in encoding/json. If a body has both "id" and "ID",
// the later one wins.
//
// Events arrive in no particular order: a token.issued may overtake the
// grant.created of its grant, and so may a grant.revoked. CreatedAt may lie ten
// minutes before the delivery, so that it does not tell whether that is fresh.
type Event[T any] struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"createdAt"`
	Data      T         `json:"data"`
}

// A RawEvent is an event whose data has not been decoded.
type RawEvent = Event[json.RawMessage]

// A Payload is the data of one type of event. [On] asks the zero value for
// EventType, which therefore has to be a method of the type itself, not of the
// pointer to it, and to return a constant such as "grant.created".
//
// A type of your own can be a payload as well, for an event this package does
// not know or for a field that it lacks; encoding/json decodes it. Since the
// data of an event is a JSON object, it has to be a struct or a map.
//
// The data is decoded by the rules of encoding/json. Names match the fields of a
// struct in any case. If two match the same field, for example grantId and GrantID,
// the later one wins; a map keeps both. A number in a map[string]any, or in a field
// of type any, becomes a float64, which rounds integers above 2^53. Use int64,
// [json.Number] or [json.RawMessage] to keep every digit.
type Payload interface {
	EventType() string
}

// GrantCreated says that a principal granted an agent some scopes. ParentGrantID
// and DelegationDepth (1 to 3) are set if another agent delegated the grant.
type GrantCreated struct {
	GrantID         string    `json:"grantId"`
	AgentID         string    `json:"agentId"`
	PrincipalID     string    `json:"principalId"`
	Scopes          []string  `json:"scopes"`
	ExpiresAt       time.Time `json:"expiresAt"`
	DelegationDepth int       `json:"delegationDepth,omitempty"`
	ParentGrantID   string    `json:"parentGrantId,omitempty"`
}

// GrantRevoked says that a grant has ended. If Cascade is set, the grants that
// were delegated from it have ended too, and no event of their own says so.
type GrantRevoked struct {
	GrantID string `json:"grantId"`
	Cascade bool   `json:"cascade"`
}

// TokenIssued says that a token of a grant was issued, be it the first, a
// refreshed or a delegated one.
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

// payloadType returns the type of event that T is the data of. It panics if T
// cannot be that.
func payloadType[T Payload]() string {
	t := reflect.TypeFor[T]()
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
	default:
		panic(fmt.Sprintf("grantexhook: On[%v]: a payload must be a struct or a map, not a %v", t, t.Kind()))
	}
	var zero T
	eventType := zero.EventType()
	if eventType == "" {
		panic(fmt.Sprintf("grantexhook: On[%v]: EventType of the zero value is empty", t))
	}
	return eventType
}

// A raw is an event of any type. Only the fields that all events share are decoded.
type raw struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	CreatedAt looseTime       `json:"createdAt"`
	Data      json.RawMessage `json:"data"`
}

// A looseTime is zero if it can't be decoded. An event without a valid time may
// only be rejected if a handler asks for its time.
type looseTime struct{ time.Time }

// UnmarshalJSON never fails.
func (t *looseTime) UnmarshalJSON(text []byte) error {
	if t.Time.UnmarshalJSON(text) != nil {
		t.Time = time.Time{}
	}
	return nil
}

// decodeRaw decodes everything except the data. With an error it also returns
// whatever it could decode.
func decodeRaw(body []byte) (RawEvent, error) {
	var r raw
	err := unmarshal(body, &r)
	e := RawEvent{r.ID, r.Type, r.CreatedAt.Time, r.Data}
	if err == nil {
		err = e.check()
	}
	return e, err
}

// decodePayload decodes an event whose data is a T. itself means that T has its own
// decoder.
func decodePayload[T Payload](body []byte, itself bool) (*Event[T], error) {
	e := new(Event[T])
	if err := unmarshal(body, e); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	// A T that is not zero was decoded from something, and that was an object
	// unless T has a decoder of its own, or the body has data twice, which no
	// sender makes.
	if itself || reflect.ValueOf(&e.Data).Elem().IsZero() {
		if err := checkObject(body); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// unmarshal decodes body into v. It replaces the decoder's errors, because their
// text quotes the body.
func unmarshal[T any](body []byte, v *T) error {
	if json.Unmarshal(body, v) != nil {
		return explain(body, reflect.TypeFor[T]())
	}
	return nil
}

func (e *Event[T]) check() error {
	switch {
	case e.ID == "":
		return &malformedError{"it has no id"}
	case e.Type == "":
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

// guessType returns what is probably the type of the event. Grantex writes the
// id and the type first, and knowing the type beforehand saves decoding the
// body twice; who guesses has to compare the type once it is decoded.
func guessType(body []byte) []byte {
	_, after, _ := bytes.Cut(body, []byte(`"type":"`))
	guess, _, _ := bytes.Cut(after, []byte(`"`))
	return guess
}
