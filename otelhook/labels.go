package otelhook

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// other replaces every unknown type, outcome and reason.
const other = "other"

// The constants of grantexhook, which isn't imported.
var (
	types   = []string{"grant.created", "grant.revoked", "token.issued"}
	reasons = []string{"no_signature", "bad_signature", "stale", "too_large", "unreadable"}

	outcomes = []struct {
		name   string
		ran    bool // whether the handler ran
		failed bool // whether the span's status is Error
	}{
		{"handled", true, false},
		{"duplicate", false, false},
		{"ignored", false, false},
		{"in_flight", false, false},
		{"malformed", false, true},
		{"failed", true, true},
		{"panicked", true, true},
		{"timed_out", true, true},
		{"store_failed", false, true},
		{other, false, false},
	}
)

// find returns the value of m for name or, if it's unknown, for other.
func find[T any](m map[string]T, name string) T {
	if v, ok := m[name]; ok {
		return v
	}
	return m[other]
}

// A kind is what the events of one type have in common. New makes all kinds in advance,
// since building attribute sets is most of the work of recording events.
type kind struct {
	spanName string
	start    trace.SpanStartOption // the attributes
	age      []metric.RecordOption
	results  map[string]*result // by outcome
}

// A result is what the events of one type with one outcome have in common.
type result struct {
	outcome     string
	ran, failed bool
	span        []attribute.KeyValue
	count       []metric.AddOption
	duration    []metric.RecordOption
}

// A refusal is what the requests rejected for one reason have in common.
type refusal struct {
	span  []attribute.KeyValue
	count []metric.AddOption
}

func newKinds(more []string) map[string]*kind {
	kinds := make(map[string]*kind)
	for _, t := range slices.Concat(types, more) {
		// An endpoint subscribes to types, as to destinations in other systems.
		kinds[t] = newKind(t, "process "+t, semconv.MessagingDestinationName(t))
	}
	kinds[other] = newKind(other, "process")
	return kinds
}

func newKind(eventType, spanName string, attrs ...attribute.KeyValue) *kind {
	label := attribute.String("type", eventType)
	k := &kind{
		spanName: spanName,
		start: trace.WithAttributes(append(attrs,
			semconv.MessagingSystemKey.String("grantex"),
			semconv.MessagingOperationName("process"),
			semconv.MessagingOperationTypeProcess,
			attribute.String("grantexhook.event.type", eventType),
		)...),
		age:     []metric.RecordOption{labels(label)},
		results: make(map[string]*result),
	}
	for _, o := range outcomes {
		set := labels(label, attribute.String("outcome", o.name))
		r := &result{
			outcome: o.name, ran: o.ran, failed: o.failed,
			span:     []attribute.KeyValue{attribute.String("grantexhook.outcome", o.name)},
			count:    []metric.AddOption{set},
			duration: []metric.RecordOption{set},
		}
		if o.failed {
			r.span = append(r.span, semconv.ErrorTypeKey.String(o.name))
		}
		k.results[o.name] = r
	}
	return k
}

func newRefusals() map[string]refusal {
	refusals := make(map[string]refusal)
	for _, r := range slices.Concat(reasons, []string{other}) {
		refusals[r] = refusal{
			span:  []attribute.KeyValue{attribute.String("grantexhook.rejection.reason", r)},
			count: []metric.AddOption{labels(attribute.String("reason", r))},
		}
	}
	return refusals
}

func labels(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// startOptions returns all that is known when the span starts, since a sampler decides
// then.
func (k *kind) startOptions(ctx context.Context, id string) []trace.SpanStartOption {
	opts := []trace.SpanStartOption{consumer, k.start}
	if id != "" {
		opts = append(opts, trace.WithAttributes(semconv.MessagingMessageID(id)))
	}
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: parent}))
	}
	return opts
}

var consumer = trace.WithSpanKind(trace.SpanKindConsumer)
