// Package capture contains deliveries from the real service, recorded on the wire, for
// the tests of this module.
package capture

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"grantex.dev/grantexhook"
)

//go:embed testdata/deliveries.jsonl
var recorded []byte

// A Recording is one recorded attempt to deliver an event.
type Recording struct {
	Name       string      `json:"name"`
	Path       string      `json:"path"`
	ReceivedAt time.Time   `json:"receivedAt"`
	Secret     string      `json:"secret"`
	Headers    [][2]string `json:"headers"` // in their order and case
	EventID    string      `json:"eventId"`
	EventType  string      `json:"eventType"`
	Body       []byte      `json:"bodyBase64"`
}

// All returns the recordings in the order in which they arrived.
func All() []Recording {
	var all []Recording
	for dec := json.NewDecoder(bytes.NewReader(recorded)); dec.More(); {
		var r Recording
		if err := dec.Decode(&r); err != nil {
			panic(err)
		}
		all = append(all, r)
	}
	return all
}

// Named returns the first recording with this name. It panics if there isn't one.
func Named(name string) Recording {
	for _, r := range All() {
		if r.Name == name {
			return r
		}
	}
	panic("capture: unknown recording " + name)
}

// Header returns the headers as a server gets them.
func (r Recording) Header() http.Header {
	h := http.Header{}
	for _, kv := range r.Headers {
		h.Add(kv[0], kv[1])
	}
	return h
}

// SentAt returns the time in the signed timestamp.
func (r Recording) SentAt() time.Time {
	seconds, err := strconv.ParseInt(r.Header().Get(grantexhook.HeaderTimestamp), 10, 64)
	if err != nil {
		panic(err)
	}
	return time.Unix(seconds, 0)
}

// Wire returns the request as it was sent. The recordings don't have the boundaries
// of chunks, so Wire puts the whole body into one chunk.
func (r Recording) Wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", r.Path)
	for _, kv := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", kv[0], kv[1])
	}
	fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n\r\n", len(r.Body), r.Body)
	return b.Bytes()
}
