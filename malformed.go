package grantexhook

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ErrMalformed means that a body isn't an event, or that its data doesn't fit the
// type that a handler asked for. The error that wraps it names the field and the
// type it should have, for example
//
//	grantexhook: malformed event: data.expiresAt: number, time.Time wanted
//
// It contains only names from your Go types, never a value or a key from the body.
// It has a method Malformed() bool, which packages that don't import this one can
// look for with [errors.As].
var ErrMalformed = errors.New("grantexhook: malformed event")

type malformedError struct{ reason string }

func (e *malformedError) Error() string { return ErrMalformed.Error() + ": " + e.reason }
func (*malformedError) Unwrap() error   { return ErrMalformed }
func (*malformedError) Malformed() bool { return true }

// A misfit is a value that doesn't decode into the type expected in its place. The
// errors of encoding/json can't be used to find it, because they quote values and
// differ between releases: Go 1.26 doesn't name the field of a bad time, and
// Go 1.27 puts keys from the body into the path.
type misfit struct {
	path   []string // the names in the Go types, not those in the body
	value  json.RawMessage
	want   reflect.Type
	quoted bool // the field's tag asks for a want in a string
}

// explain returns an error about the innermost misfit of a body that doesn't decode into t.
func explain(body []byte, t reflect.Type) error {
	if !json.Valid(body) {
		return &malformedError{"the body is not JSON"}
	}
	m := misfit{value: body, want: t}
	for range 16 { // since each step decodes the value again
		inner, found := m.inner()
		if !found {
			break
		}
		m = inner
		for m.want.Kind() == reflect.Pointer {
			m.want = m.want.Elem()
		}
	}
	return &malformedError{m.String()}
}

// String returns, for example, "data.depth: string, int wanted".
func (m misfit) String() string {
	kind, want := kindOf(m.value), wanted(m.want)
	switch {
	case m.quoted:
		want = "quoted " + want
	case kind == want: // the kind isn't what is wrong
		want = m.want.String()
	}
	return fmt.Sprintf("%s: %s, %s wanted", cmp.Or(strings.Join(m.path, "."), "the body"), kind, want)
}

// inner returns the misfit within the value of m that explains m, if there is one.
func (m misfit) inner() (misfit, bool) {
	var list []json.RawMessage
	var members map[string]json.RawMessage
	switch kind := m.want.Kind(); {
	case decodesItself(m.want):
	case kind == reflect.Struct && json.Unmarshal(m.value, &members) == nil:
		return m.field(members)
	case kind == reflect.Map && json.Unmarshal(m.value, &members) == nil:
		for _, name := range slices.Sorted(maps.Keys(members)) {
			list = append(list, members[name])
		}
		return m.element(list)
	case (kind == reflect.Slice || kind == reflect.Array) && json.Unmarshal(m.value, &list) == nil:
		return m.element(list)
	}
	return m, false
}

// field decodes each member of an object by itself into the whole type. That way
// encoding/json matches the names and applies the tags.
func (m misfit) field(members map[string]json.RawMessage) (misfit, bool) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		alone, err := json.Marshal(map[string]json.RawMessage{name: members[name]})
		if f, found := fieldFor(m.want, name); found && err == nil && !fits(alone, m.want) {
			tag, quoted := tagOf(f)
			return misfit{append(m.path, tag), members[name], f.Type, quoted}, true
		}
	}
	return m, false
}

// element doesn't extend the path. The keys of a map come from the body.
func (m misfit) element(values []json.RawMessage) (misfit, bool) {
	for _, v := range values {
		if !fits(v, m.want.Elem()) {
			return misfit{path: m.path, value: v, want: m.want.Elem()}, true
		}
	}
	return m, false
}

func fits(value []byte, t reflect.Type) bool {
	return json.Unmarshal(value, reflect.New(t).Interface()) == nil
}

// fieldFor returns the field that encoding/json decodes a member into. An exact name
// wins over one that differs in case, and then the outermost field wins.
func fieldFor(t reflect.Type, name string) (best reflect.StructField, found bool) {
	for _, same := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		for _, f := range reflect.VisibleFields(t) {
			tag, _ := tagOf(f)
			if f.IsExported() && same(tag, name) && (!found || len(f.Index) < len(best.Index)) {
				best, found = f, true
			}
		}
		if found {
			break
		}
	}
	return best, found
}

// tagOf returns the name of f in JSON. quoted reports whether its tag has the option
// "string", and encoding/json applies it to the field's type.
func tagOf(f reflect.StructField) (name string, quoted bool) {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	basic := reflect.Bool <= t.Kind() && t.Kind() <= reflect.Float64 || t.Kind() == reflect.String
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return cmp.Or(name, f.Name), basic && slices.Contains(strings.Split(options, ","), "string")
}

// decodesItself reports whether t has a decoder that encoding/json calls.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	_, streams := p.MethodByName("UnmarshalJSONFrom") // new in Go 1.27; its interface is in a package that Go 1.26 lacks
	return streams || p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// kindOf returns the kind of a JSON value, in the words of encoding/json.
func kindOf(value []byte) string {
	kinds := map[byte]string{'{': "object", '[': "array", '"': "string", 't': "bool", 'f': "bool", 'n': "null"}
	return cmp.Or(kinds[bytes.TrimLeft(value, " \t\r\n")[0]], "number")
}

// wanted returns the kind of value that decodes into a t: objects and arrays by
// their JSON name, everything else by its name in Go.
func wanted(t reflect.Type) string {
	if decodesItself(t) || t == reflect.TypeFor[json.Number]() || t == reflect.TypeFor[[]byte]() {
		return t.String()
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	}
	return t.Kind().String()
}
