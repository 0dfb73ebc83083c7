// Package capture has deliveries of the real service, as they were recorded on
// the wire, for the tests of this module.
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

// A Delivery is one attempt at an event.
type Delivery struct {
	Name       string      `json:"name"`
	Path       string      `json:"path"`
	ReceivedAt time.Time   `json:"receivedAt"`
	Secret     string      `json:"secret"`
	Headers    [][2]string `json:"headers"` // in their order and case
	EventID    string      `json:"eventId"`
	EventType  string      `json:"eventType"`
	Body       []byte      `json:"bodyBase64"`
}

// All returns the deliveries in the order in which they came.
func All() []Delivery {
	var all []Delivery
	for dec := json.NewDecoder(bytes.NewReader(recorded)); dec.More(); {
		var d Delivery
		if err := dec.Decode(&d); err != nil {
			panic(err)
		}
		all = append(all, d)
	}
	return all
}

// Named returns the first delivery of this name, and panics if there is none.
func Named(name string) Delivery {
	for _, d := range All() {
		if d.Name == name {
			return d
		}
	}
	panic("capture: no delivery is named " + name)
}

// Header returns the headers as a server sees them.
func (d Delivery) Header() http.Header {
	h := http.Header{}
	for _, kv := range d.Headers {
		h.Add(kv[0], kv[1])
	}
	return h
}

// SentAt returns the time that the sender signed.
func (d Delivery) SentAt() time.Time {
	seconds, err := strconv.ParseInt(d.Header().Get(grantexhook.HeaderTimestamp), 10, 64)
	if err != nil {
		panic(err)
	}
	return time.Unix(seconds, 0)
}

// Wire returns the request as it was sent. The recordings do not tell the
// chunks; what was sent them in one.
func (d Delivery) Wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", d.Path)
	for _, kv := range d.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", kv[0], kv[1])
	}
	fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n\r\n", len(d.Body), d.Body)
	return b.Bytes()
}
