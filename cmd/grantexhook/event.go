package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"grantex.dev/grantexhook"
)

// eventTypes are those that an endpoint can subscribe to.
func eventTypes() []string {
	return []string{grantexhook.TypeGrantCreated, grantexhook.TypeGrantRevoked, grantexhook.TypeTokenIssued}
}

// jsonLine returns body as a line, byte for byte unless it is several.
func jsonLine(body []byte) []byte {
	line := bytes.NewBuffer(make([]byte, 0, len(body)+1))
	if !bytes.ContainsAny(body, "\r\n") || json.Compact(line, body) != nil {
		line.Reset()
		line.Write(body)
	}
	line.WriteByte('\n')
	return line.Bytes()
}

// describe shows an event to a person.
func describe(body []byte, signed string) string {
	var e grantexhook.RawEvent
	if json.Unmarshal(body, &e) != nil {
		return fmt.Sprintf("%s, %s\n", printable(string(body)), signed)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  created %s, %s\n", printable(e.Type), printable(e.ID), e.CreatedAt.UTC().Format(time.RFC3339), signed)
	for _, f := range fields(e.Data) {
		fmt.Fprintf(&b, "  %-16s %s\n", printable(f.name), f.text())
	}
	return b.String()
}

// A field is one of an object, in its place.
type field struct {
	name  string
	value json.RawMessage
}

// fields returns those of an object, in their order; none if it is no object.
func fields(object []byte) (all []field) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil
	}
	for dec.More() {
		name, err := dec.Token()
		f := field{name: fmt.Sprint(name)}
		if err != nil || dec.Decode(&f.value) != nil {
			return all
		}
		all = append(all, f)
	}
	return all
}

// text shows a value: strings without their quotes, if they are harmless.
func (f field) text() string {
	var one string
	var list []string
	switch {
	case json.Unmarshal(f.value, &one) == nil:
		return printable(one)
	case json.Unmarshal(f.value, &list) == nil && !slices.Contains(list, ""):
		for i := range list {
			list[i] = printable(list[i])
		}
		return strings.Join(list, ", ")
	}
	return printable(string(f.value))
}
