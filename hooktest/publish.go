package hooktest

import (
	"slices"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

type scheduler = func(e grantexhook.RawEvent, endpointID string) []time.Duration

// Schedule makes f decide when an event is sent, from now on. It's called for each
// endpoint that wants the event, and with an empty endpointID for the stream. It returns
// how long to wait before each copy: no element loses the event without a trace, two
// double it, and different waits change the order. Without f, or with a nil f, an event
// is sent once and right away, as with []time.Duration{0}.
//
// The real Grantex reaches the stream within 17 ms and an endpoint within 14 s in the
// median. It can lose an event for endpoints, and its order is random.
//
// f is called concurrently, before the method that published the event returns.
func (a *API) Schedule(f func(e grantexhook.RawEvent, endpointID string) []time.Duration) {
	if f == nil {
		a.schedule.Store(nil)
		return
	}
	a.schedule.Store(&f)
}

// Publish sends an event to the stream and to the endpoints that subscribe to its type.
// The API's own grants don't change. Pass an [Event] for types that this module doesn't
// know or to send the same event twice, or a [Raw] to send a recorded event. It panics
// where [Body] would fail the test.
func (a *API) Publish(p grantexhook.Payload) {
	body := mustBody(p)
	a.send(Raw(body).EventType(), body)
}

// publish is Publish for the API's own events. It encodes only what a receiver wants.
func (a *API) publish(eventType string, data any) {
	if !a.wanted(eventType) {
		return
	}
	body, err := sender.Body(sender.NewEvent(eventType, data))
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	a.send(eventType, body)
}

func (a *API) wanted(eventType string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.schedule.Load() != nil || len(a.streams) > 0 || len(a.subscribers(eventType)) > 0
}

func (a *API) subscribers(eventType string) []*endpoint {
	var subscribers []*endpoint
	for _, e := range a.endpoints {
		if slices.Contains(e.Events, eventType) {
			subscribers = append(subscribers, e)
		}
	}
	return subscribers
}

func (a *API) send(eventType string, body []byte) {
	a.mu.Lock()
	subscribers := a.subscribers(eventType)
	a.mu.Unlock()
	for _, wait := range a.waits(body, "") {
		a.later(wait, func() { a.broadcast(eventType, body) })
	}
	for _, e := range subscribers {
		for _, wait := range a.waits(body, e.ID) {
			a.deliver(e, eventType, body, wait)
		}
	}
}

// waits asks the schedule.
func (a *API) waits(body []byte, endpointID string) []time.Duration {
	f := a.schedule.Load()
	if f == nil {
		return []time.Duration{0}
	}
	return (*f)(Raw(body).envelope(), endpointID)
}

// later runs f after a wait, or at once.
func (a *API) later(wait time.Duration, f func()) {
	if wait <= 0 {
		f()
		return
	}
	a.start(func() {
		if sleep(a.ctx, wait) {
			f()
		}
	})
}
