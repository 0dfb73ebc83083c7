package integration

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
	"grantex.dev/grantexhook/otelhook"
)

// TestGrantsMetrics checks that the metrics of a real Cache are what happened to it.
func TestGrantsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := hooktest.NewAPI()
		defer api.Close()
		first := api.Create(grantexhook.GrantCreated{})
		second := api.Create(grantexhook.GrantCreated{})
		cache, err := grants.New(&grantexapi.Client{APIKey: "key", HTTPClient: api.Client()}, nil)
		require.NoError(t, err)
		reader := sdkmetric.NewManualReader()
		require.NoError(t, otelhook.Grants(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), cache.Status))

		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- cache.Run(ctx) }()
		require.NoError(t, cache.Sync(ctx))
		_, end, err := cache.Context(ctx, first.GrantID) // a hit
		require.NoError(t, err)
		defer end()
		require.ErrorIs(t, cache.Check(ctx, "grnt_0"), grants.ErrEnded) // a miss and a question
		time.Sleep(10 * time.Second)
		api.Revoke(second.GrantID)
		synctest.Wait()
		require.ErrorIs(t, cache.Check(ctx, second.GrantID), grants.ErrEnded) // a hit

		require.Equal(t, map[string]float64{
			"connected": 1, "cached": 1, "untold": 0, "contexts": 1, "questions": 1,
			"checks cache=hit": 2, "checks cache=miss": 1,
			"rejections reason=ended": 2, "rejections reason=stale": 0,
			"list.age": cache.Status().ListAge.Seconds(),
		}, grantsMetrics(t, reader))
		stop()
		require.NoError(t, <-ran)
	})
}

// grantsMetrics returns the values by the last part of the metric's name and the labels.
func grantsMetrics(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &rm))
	require.Len(t, rm.ScopeMetrics, 1)
	values := make(map[string]float64)
	for _, m := range rm.ScopeMetrics[0].Metrics {
		name := m.Name[len("grantexhook.grants."):]
		switch data := m.Data.(type) {
		case metricdata.Gauge[float64]:
			values[name] = data.DataPoints[0].Value
		case metricdata.Gauge[int64]:
			values[name] = float64(data.DataPoints[0].Value)
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				key := name
				if p.Attributes.Len() > 0 {
					key += " " + p.Attributes.Encoded(attribute.DefaultEncoder())
				}
				values[key] = float64(p.Value)
			}
		}
	}
	return values
}
