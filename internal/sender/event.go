package sender

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"grantex.dev/grantexhook"
)

// MaxBody is the size in bytes of the largest body that Grantex can send. Its API
// limits what goes into one.
const MaxBody = 154_241

// NewEvent returns an event that happens now.
func NewEvent(eventType string, data any) grantexhook.Event[any] {
	now := time.Now()
	return grantexhook.Event[any]{ID: NewID("evt_", now), Type: eventType, CreatedAt: now, Data: data}
}

// NewID returns an ID like those of Grantex: the prefix and a ULID.
func NewID(prefix string, at time.Time) string {
	const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var u [16]byte
	rand.Read(u[:])
	hi, lo := binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:])
	hi = uint64(at.UnixMilli())<<16 | hi&0xffff
	var text [26]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = crockford[lo&31]
		hi, lo = hi>>5, lo>>5|hi<<59
	}
	return prefix + string(text[:])
}

// Body returns the body of e as Grantex writes it. Data that is nil becomes an empty
// object. Body returns an error if Data can't be encoded as a JSON object.
func Body(e grantexhook.Event[any]) ([]byte, error) {
	if e.Data == nil {
		e.Data = struct{}{}
	}
	data, err := Encode(e.Data)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(data, []byte("{")) {
		return nil, errors.New("grantexhook: the data of an event must be a JSON object, so the payload must be a struct or a map")
	}
	e.Data = json.RawMessage(data)
	return Encode(e)
}

// Encode writes v as Grantex does, with JSON.stringify. encoding/json differs in
// escapes, times and nil slices, and it keeps the escapes in a json.RawMessage.
// Numbers stay as they are in v, where JavaScript would round large ones.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	body := []byte(string([]rune(strings.TrimSuffix(b.String(), "\n")))) // a json.RawMessage may not be UTF-8
	body = escape.ReplaceAllFunc(body, unescape)
	body = timeField.ReplaceAllFunc(body, millis)
	return bytes.ReplaceAll(body, []byte(`"scopes":null`), []byte(`"scopes":[]`)), nil
}

// escape matches each escape as a whole, and both escapes of a surrogate pair
// together. Otherwise the second half of an escaped backslash would look like the
// beginning of another escape.
var escape = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)`)

// unescape returns what JSON.stringify writes for an escaped character: the
// character itself, unless it must be escaped.
func unescape(escape []byte) []byte {
	switch {
	case escape[1] == '/':
		return escape[1:]
	case escape[1] != 'u':
		return escape
	}
	r := unhex(escape)
	if len(escape) > len(`\u0000`) {
		r = utf16.DecodeRune(r, unhex(escape[len(`\u0000`):]))
	}
	const special, letters = "\"\\\b\f\n\r\t", `"\bfnrt`
	i := strings.IndexRune(special, r)
	switch {
	case i >= 0:
		return []byte{'\\', letters[i]}
	case r < ' ', utf16.IsSurrogate(r): // a control character, or half of a pair
		return bytes.ToLower(escape)
	}
	return utf8.AppendRune(nil, r)
}

// unhex returns the number in a \u escape.
func unhex(escape []byte) rune {
	n, _ := strconv.ParseUint(string(escape[len(`\u`):len(`\u0000`)]), 16, 16)
	return rune(n)
}

// timeField matches only a field that is named like the times of Grantex. Inside a
// string the quotes would be escaped.
var timeField = regexp.MustCompile(`At":"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)"`)

// millis writes the time in UTC with three decimals, like JavaScript.
func millis(field []byte) []byte {
	const name = `At":"`
	at, err := time.Parse(time.RFC3339Nano, string(field[len(name):len(field)-1]))
	if err != nil {
		return field
	}
	return at.UTC().AppendFormat([]byte(name), `2006-01-02T15:04:05.000Z"`)
}
