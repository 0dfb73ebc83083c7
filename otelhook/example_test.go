package otelhook_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"grantex.dev/grantexhook/otelhook"
)

// A program sets the Trace of a grantexhook.Dispatcher and the Refused of a
// grantexhook.Options to the Hook's methods. Here they are called directly.
func Example() {
	exporter := tracetest.NewInMemoryExporter()
	reader := sdkmetric.NewManualReader()
	hook, err := otelhook.New(&otelhook.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	_, end := hook.Trace(ctx, "evt_1", "grant.revoked", time.Now().Add(-time.Minute))
	end("failed", errors.New("no session of user-123"))
	hook.Refused(httptest.NewRequest(http.MethodPost, "/webhooks/grantex", nil), "stale", nil)

	for _, s := range exporter.GetSpans() {
		fmt.Println(s.Name, s.SpanKind, s.Status.Code, s.Status.Description)
		slices.SortFunc(s.Attributes, func(a, b attribute.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
		for _, a := range s.Attributes {
			fmt.Println(" ", a.Key, "=", a.Value.String())
		}
	}
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &rm); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
		for _, labels := range labelsOf(m.Data) {
			fmt.Println(" ", labels.Encoded(attribute.DefaultEncoder()))
		}
	}
	// Output:
	// process grant.revoked consumer Error failed
	//   error.type = failed
	//   grantexhook.event.type = grant.revoked
	//   grantexhook.outcome = failed
	//   messaging.destination.name = grant.revoked
	//   messaging.message.id = evt_1
	//   messaging.operation.name = process
	//   messaging.operation.type = process
	//   messaging.system = grantex
	// grantexhook.events {event}
	//   outcome=failed,type=grant.revoked
	// grantexhook.rejections {request}
	//   reason=stale
	// grantexhook.handler.duration s
	//   outcome=failed,type=grant.revoked
	// grantexhook.event.age s
	//   type=grant.revoked
}

func labelsOf(a metricdata.Aggregation) []attribute.Set {
	var sets []attribute.Set
	switch data := a.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			sets = append(sets, p.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			sets = append(sets, p.Attributes)
		}
	}
	return sets
}
