// Package otelhook tells OpenTelemetry what grantexhook does: a span and metrics
// for each event that is dispatched, and a count of the requests that are
// refused.
//
//	hook, err := otelhook.New(nil)
//	...
//	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true, Refused: hook.Refused})
//	...
//	d := grantexhook.Dispatcher{Trace: hook.Trace}
//
// The spans and metrics are those of [Hook.Trace] and [Hook.Refused]. What stands
// in them is the id of an event and otherwise a word out of a list that is known
// beforehand: never a text of an error, which may quote a secret or a principal,
// and nothing else of a body.
//
// # The span of the request
//
// Neither this package nor grantexhook makes a span for the HTTP request. Wrap
// the mux in the handler of
// go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp, and the span of
// an event is below that of its request:
//
//	http.ListenAndServe(":8080", otelhttp.NewHandler(mux, "webhooks"))
//
// Grantex sends no traceparent, so that the span of a request is the root of its
// trace, and the five attempts at an event are five traces with one
// messaging.message.id. A traceparent that does come is from a proxy of yours or
// from a stranger; otelhttp.WithPublicEndpointFn makes it a link instead of the
// parent.
//
// Behind riverinbox, events are handled after their requests have ended. River's
// own middleware, otelriver, creates the parent of the event's span and links it to
// the request; see riverinbox's documentation.
package otelhook

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of the tracer and of the meter.
const scope = "grantex.dev/grantexhook/otelhook"

// Options are the choices that [New] offers. The zero value is ready to use.
type Options struct {
	// TracerProvider makes the spans: the global one if nil.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics: the global one if nil.
	MeterProvider metric.MeterProvider

	// Types are the types of event to tell apart besides grant.created,
	// grant.revoked and token.issued. All others are "other", since a type is
	// whatever text the sender writes, and each makes time series of its own.
	Types []string
}

// A Hook makes spans and metrics of what grantexhook tells it. It is immutable
// and safe for concurrent use. The zero value and a nil Hook record nothing.
type Hook struct {
	tracer               trace.Tracer
	kinds                map[string]*kind   // by type
	refusals             map[string]refusal // by reason
	events, rejections   metric.Int64Counter
	handlerDuration, age metric.Float64Histogram
}

// New returns a Hook. A nil opts is the zero [Options]. The global providers may
// still be set afterwards.
//
// It is an error if one of the Types is empty or if the MeterProvider does not
// make an instrument.
func New(opts *Options) (*Hook, error) {
	if opts == nil {
		opts = &Options{}
	}
	if i := slices.Index(opts.Types, ""); i >= 0 {
		return nil, fmt.Errorf("otelhook: Types[%d] is empty; leave it out", i)
	}
	h := &Hook{
		tracer:   cmp.Or(opts.TracerProvider, otel.GetTracerProvider()).Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		kinds:    newKinds(opts.Types),
		refusals: newRefusals(),
	}
	meter := cmp.Or(opts.MeterProvider, otel.GetMeterProvider()).Meter(scope)
	if err := h.instruments(meter); err != nil {
		return nil, err
	}
	return h, nil
}

// Trace is for the Trace of a grantexhook.Dispatcher. It begins the span of an
// event, and returns the context that carries it and a function that ends it
// with the outcome. The latter counts once, however often it is called; if it
// never is, the span is not exported and only the age is recorded.
//
// The span has the kind consumer. If there is one in ctx, it is a child of that
// and links to it: the semantic conventions for messaging want a link to where the
// message was created, and nothing nearer to that is known. Its name is "process
// grant.created", or that of another type that is known, and otherwise "process".
// Its attributes are
//   - messaging.system, which is "grantex", and messaging.operation.name and
//     messaging.operation.type, which are "process";
//   - messaging.destination.name, which is the type, if it is known;
//   - messaging.message.id, which is the id of the event, if it has one;
//   - grantexhook.event.type, which is the type, or "other";
//   - grantexhook.outcome, which is one of the Outcome constants of grantexhook, or
//     "other";
//   - error.type, which is the outcome, if that is failed, panicked, timed_out,
//     store_failed or malformed. The status is then Error, and else unset.
//
// The metrics have the labels type and outcome, with the same words:
//   - grantexhook.events counts the events, by type and outcome;
//   - grantexhook.handler.duration is how many seconds an event took whose handler
//     ran, with its claim and its settling in the Store, by type and outcome,
//     which is handled, failed, timed_out or panicked, even if what panicked was
//     the decoder of a payload;
//   - grantexhook.event.age is how many seconds before this call the event was
//     created, by type. It is 0 if that lies in the future, and is not recorded if
//     createdAt is zero.
func (h *Hook) Trace(ctx context.Context, id, eventType string, createdAt time.Time) (context.Context, func(outcome string, err error)) {
	if h == nil || h.tracer == nil {
		return ctx, func(string, error) {}
	}
	start := time.Now()
	k := find(h.kinds, eventType)
	ctx, span := h.tracer.Start(ctx, k.spanName, k.startOptions(ctx, id)...)
	if !createdAt.IsZero() {
		h.age.Record(ctx, max(0, start.Sub(createdAt).Seconds()), k.age...)
	}
	var ended atomic.Bool
	return ctx, func(outcome string, _ error) { // the text of the error may quote anything
		if !ended.Swap(true) {
			h.end(ctx, span, find(k.results, outcome), time.Since(start))
		}
	}
}

func (h *Hook) end(ctx context.Context, span trace.Span, r *result, took time.Duration) {
	span.SetAttributes(r.span...)
	if r.failed {
		span.SetStatus(codes.Error, r.outcome)
	}
	h.events.Add(ctx, 1, r.count...)
	if r.ran {
		h.handlerDuration.Record(ctx, took.Seconds(), r.duration...)
	}
	span.End()
}

// Refused is for the Refused of a grantexhook.Options. It counts the request in
// grantexhook.rejections, by reason, and sets the attribute
// grantexhook.rejection.reason of the span in the context of r, if there is one.
// Both are one of the Reason constants of grantexhook, or "other". The body of r
// is not read.
func (h *Hook) Refused(r *http.Request, reason string, _ error) {
	if h == nil || h.tracer == nil {
		return
	}
	f := find(h.refusals, reason)
	trace.SpanFromContext(r.Context()).SetAttributes(f.span...)
	h.rejections.Add(r.Context(), 1, f.count...)
}
