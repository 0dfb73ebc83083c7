package otelhook_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"grantex.dev/grantexhook/otelhook"
)

// BenchmarkTrace traces an event with an empty handler.
func BenchmarkTrace(b *testing.B) {
	never := sdktrace.WithSampler(sdktrace.NeverSample())
	batch := sdktrace.WithBatcher(tracetest.NewNoopExporter())
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	tests := []struct {
		name string
		opts otelhook.Options
	}{
		{"noop", otelhook.Options{TracerProvider: tracenoop.NewTracerProvider(), MeterProvider: metricnoop.NewMeterProvider()}},
		{"sdk", otelhook.Options{TracerProvider: sdktrace.NewTracerProvider(batch), MeterProvider: meters}},
		{"sdk, not sampled", otelhook.Options{TracerProvider: sdktrace.NewTracerProvider(batch, never), MeterProvider: meters}},
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx, created := trace.ContextWithSpanContext(context.Background(), parent), time.Now()
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			h, err := otelhook.New(&tt.opts)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, end := h.Trace(ctx, "evt_01M844HHM3E3XXHXKZF40XG6DD", "grant.created", created)
				end("handled", nil)
			}
		})
	}
}
