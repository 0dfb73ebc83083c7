// Package otelhook records what grantexhook does in OpenTelemetry: a span and metrics for
// each event, and a counter of rejected requests. [Grants] adds the state of a grants.Cache.
//
//	hook, err := otelhook.New(nil)
//	...
//	v, err := grantexhook.NewVerifier(secret, &grantexhook.Options{RequireTimestamp: true, Refused: hook.Refused})
//	...
//	d := grantexhook.Dispatcher{Trace: hook.Trace}
//
// [Hook.Trace] and [Hook.Refused] describe the spans and metrics. They contain the ids of
// events and words from fixed lists. They never contain an error's text, which may quote a
// secret or a principal, or anything else of a body.
//
// # The request's span
//
// This package doesn't create the HTTP request's span. To get one, wrap the mux in the
// handler of go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp. An event's span
// is then a child of its request's span:
//
//	http.ListenAndServe(":8080", otelhttp.NewHandler(mux, "webhooks"))
//
// Grantex doesn't send a traceparent, so each request's span is the root of its trace. Five
// attempts at an event are five traces with the same messaging.message.id. If a request has
// a traceparent, it comes from your proxy or from a stranger. With
// otelhttp.WithPublicEndpointFn it becomes a link instead of the parent.
//
// Behind riverinbox, events are handled after their requests. River's middleware otelriver
// creates the parent of the event's span and links it to the request. See riverinbox's
// documentation.
package otelhook

import (
	"cmp"
	"context"
	"errors"
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

// scope names the tracer and the meter.
const scope = "grantex.dev/grantexhook/otelhook"

// Options configures [New]. The zero value is ready to use.
type Options struct {
	// TracerProvider creates the spans. It's the global one if nil.
	TracerProvider trace.TracerProvider

	// MeterProvider creates the metrics. It's the global one if nil.
	MeterProvider metric.MeterProvider

	// Types are further event types to record by name, in addition to grant.created,
	// grant.revoked and token.issued. All others are recorded as "other", since a sender
	// may write any text as the type and each would create time series.
	Types []string
}

// A Hook creates spans and metrics. Make one with [New] and set the Dispatcher's Trace and
// the Verifier's Refused to its methods. It's immutable and safe for concurrent use. The
// zero value and a nil Hook record nothing.
type Hook struct {
	tracer               trace.Tracer
	kinds                map[string]*kind   // by type
	refusals             map[string]refusal // by reason
	events, rejections   metric.Int64Counter
	handlerDuration, age metric.Float64Histogram
}

// New returns a Hook. A nil opts is the zero [Options]. You may set the global providers
// later. New copies Types.
//
// It returns an error if one of the Types is empty, or if the MeterProvider returns an
// error.
func New(opts *Options) (*Hook, error) {
	if opts == nil {
		opts = &Options{}
	}
	if i := slices.Index(opts.Types, ""); i >= 0 {
		return nil, fmt.Errorf("otelhook: Options.Types[%d] is empty; remove it", i)
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

// instruments creates the metrics.
func (h *Hook) instruments(m metric.Meter) error {
	var errs [4]error
	h.events, errs[0] = m.Int64Counter("grantexhook.events", metric.WithUnit("{event}"),
		metric.WithDescription("Events that were dispatched."))
	h.rejections, errs[1] = m.Int64Counter("grantexhook.rejections", metric.WithUnit("{request}"),
		metric.WithDescription("Requests that were rejected."))
	// The Dispatcher gives a handler 9 s, and Grantex waits for 10. Only a queue's
	// worker may take longer.
	h.handlerDuration, errs[2] = m.Float64Histogram("grantexhook.handler.duration", metric.WithUnit("s"),
		metric.WithDescription("How long an event took if its handler ran, including the calls to the Store."),
		metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 9, 10, 30, 60, 300, 1800))
	// With one process, Grantex retries 60, 150, 300 and 570 s after the first attempt.
	// Each retry has its own bucket, up to 120, 240, 480 and 720.
	h.age, errs[3] = m.Float64Histogram("grantexhook.event.age", metric.WithUnit("s"),
		metric.WithDescription("Time from the creation of an event to the start of its handling."),
		metric.WithExplicitBucketBoundaries(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 240, 480, 720, 1800, 3600, 21600, 86400))
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("otelhook: %w", err)
	}
	return nil
}

// Trace is for the Trace field of a grantexhook.Dispatcher. It starts the span of an
// event. It returns a context with the span, and a function that ends it with the outcome.
// Only the function's first call counts. Without a call, the span isn't exported and only
// the age is recorded.
//
// The span's name is "process" and the type, for example "process grant.created", or just
// "process" if the type is unknown. Its kind is consumer. If ctx has a span, it's the
// parent. The event's span also links to it, as the semantic conventions for messaging
// require for the context in which a message was created. The attributes are:
//   - messaging.system: "grantex"
//   - messaging.operation.name and messaging.operation.type: "process"
//   - messaging.destination.name: the type, if it's known
//   - messaging.message.id: the event's id, if it has one
//   - grantexhook.event.type: the type, or "other"
//   - grantexhook.outcome: one of grantexhook's Outcome constants, or "other"
//   - error.type: the outcome, if it's failed, panicked, timed_out, store_failed or
//     malformed. The span's status is then Error, otherwise unset.
//
// The metrics have the labels type and outcome, with the same values:
//   - grantexhook.events counts events by type and outcome.
//   - grantexhook.handler.duration is how many seconds an event took by type and outcome,
//     including Claim and Done or Release. It's recorded if the handler ran: if the outcome
//     is handled, failed, timed_out or panicked. A panic while decoding counts too.
//   - grantexhook.event.age is how old the event is at this call by type, in seconds. It's 0
//     if createdAt is in the future, and isn't recorded if createdAt is zero.
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

// Refused is for the Refused field of grantexhook.Options. It counts the request in
// grantexhook.rejections, with the label reason. It also sets the attribute
// grantexhook.rejection.reason of the span in r's context, if there is one. Both values are
// one of grantexhook's Reason constants, or "other". Refused doesn't read the body of r.
func (h *Hook) Refused(r *http.Request, reason string, _ error) {
	if h == nil || h.tracer == nil {
		return
	}
	f := find(h.refusals, reason)
	trace.SpanFromContext(r.Context()).SetAttributes(f.span...)
	h.rejections.Add(r.Context(), 1, f.count...)
}
