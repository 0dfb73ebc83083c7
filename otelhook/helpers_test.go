package otelhook_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"grantex.dev/grantexhook/otelhook"
)

// An observer is a Hook with the SDK.
type observer struct {
	*otelhook.Hook
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer // for spans that the Hook doesn't create
	reader *metric.ManualReader
}

func observe(t testing.TB, types ...string) observer {
	t.Helper()
	spans, reader := tracetest.NewSpanRecorder(), metric.NewManualReader()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	h, err := otelhook.New(&otelhook.Options{
		TracerProvider: tp,
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(reader)),
		Types:          types,
	})
	require.NoError(t, err)
	return observer{h, spans, tp.Tracer("server"), reader}
}

// span returns the only span that has ended.
func (o observer) span(t testing.TB) sdktrace.ReadOnlySpan {
	t.Helper()
	require.Len(t, o.spans.Ended(), 1)
	return o.spans.Ended()[0]
}

func (o observer) metrics(t testing.TB) []metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, o.reader.Collect(context.Background(), &rm))
	if len(rm.ScopeMetrics) == 0 {
		return nil
	}
	require.Len(t, rm.ScopeMetrics, 1)
	require.Equal(t, "grantex.dev/grantexhook/otelhook", rm.ScopeMetrics[0].Scope.Name)
	return rm.ScopeMetrics[0].Metrics
}

// points returns the measurements, for example
// "grantexhook.events{outcome=handled,type=grant.created}": "1". A histogram has its count
// and sum.
func (o observer) points(t testing.TB) map[string]string {
	t.Helper()
	points := make(map[string]string)
	for _, m := range o.metrics(t) {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				points[key(m.Name, p.Attributes)] = fmt.Sprint(p.Value)
			}
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				points[key(m.Name, p.Attributes)] = fmt.Sprint(p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range data.DataPoints {
				points[key(m.Name, p.Attributes)] = fmt.Sprint(p.Value)
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				points[key(m.Name, p.Attributes)] = fmt.Sprint(p.Count, " ", p.Sum)
			}
		default:
			require.Failf(t, "unknown kind of metric", "%T", data)
		}
	}
	return points
}

func key(name string, labels attribute.Set) string {
	return name + "{" + labels.Encoded(attribute.DefaultEncoder()) + "}"
}

func attributes(kvs []attribute.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

// dispatch traces an event like a Dispatcher.
func (o observer) dispatch(eventType, outcome string, err error) {
	_, end := o.Trace(context.Background(), "evt_1", eventType, time.Time{})
	end(outcome, err)
}
