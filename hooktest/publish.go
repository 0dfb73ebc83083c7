package hooktest

import (
	"slices"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

type scheduler = func(e grantexhook.RawEvent, endpointID string) []time.Duration

// Schedule makes f decide when events are sent. For each event, f is called once for
// each endpoint that subscribes to it, and once with an empty endpointID for all streams
// together. It returns how long to wait before each copy. With no element the event is
// lost without a trace, with two it's doubled, and different waits change the order. By
// default, and after Schedule(nil), an event is sent once and right away.
//
// In the median, the real Grantex takes 17 ms to the stream and 14 s to an endpoint. It
// can lose an event on its way to an endpoint, and it doesn't preserve order.
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
