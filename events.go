package grantexhook

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
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

// ErrMalformed means that a body is no event, or that its data does not fit the
// type that a handler asked for. The error that wraps it never quotes the body.
var ErrMalformed = errors.New("grantexhook: malformed event")

// An Event is what Grantex says has happened. Fields that Grantex may add to it
// are ignored.
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

// decodeRaw decodes all but the data.
func decodeRaw(body []byte) (RawEvent, error) {
	var e RawEvent
	err := decode(body, &e)
	return e, err
}

// decodePayload decodes an event whose data is a T.
func decodePayload[T Payload](body []byte) (*Event[T], error) {
	e := new(Event[T])
	if err := decode(body, e); err != nil {
		return nil, err
	}
	// A T that is not zero was decoded from something, and that was an object
	// unless T has a decoder of its own, or the body has data twice, which no
	// sender makes.
	if (decodesItself(&e.Data) || reflect.ValueOf(&e.Data).Elem().IsZero()) && !hasObject(body) {
		return nil, fmt.Errorf("%w: its data is no object", ErrMalformed)
	}
	return e, nil
}

// decode drops the text of the decoder's errors, which quotes the body.
func decode[T any](body []byte, e *Event[T]) error {
	switch {
	case json.Unmarshal(body, e) != nil:
		return fmt.Errorf("%w: the body does not decode into %T", ErrMalformed, *e)
	case e.ID == "":
		return fmt.Errorf("%w: it has no id", ErrMalformed)
	case e.Type == "":
		return fmt.Errorf("%w: it has no type", ErrMalformed)
	}
	return nil
}

// decodesItself reports whether encoding/json leaves it to data to decode
// itself, so that it might take what is no object.
func decodesItself(data any) bool {
	switch data.(type) {
	case json.Unmarshaler, encoding.TextUnmarshaler:
		return true
	}
	return false
}

func hasObject(body []byte) bool {
	e, err := decodeRaw(body)
	return err == nil && bytes.HasPrefix(e.Data, []byte("{"))
}

// guessType returns what is probably the type of the event. Grantex writes the
// id and the type first, and knowing the type beforehand saves decoding the
// body twice; who guesses has to compare the type once it is decoded.
func guessType(body []byte) []byte {
	_, after, _ := bytes.Cut(body, []byte(`"type":"`))
	guess, _, _ := bytes.Cut(after, []byte(`"`))
	return guess
}
