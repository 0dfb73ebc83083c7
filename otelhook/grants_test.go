package otelhook_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"grantex.dev/grantexhook/otelhook"
)

// A status has the fields of grants.Status.
type status struct {
	ListAge                               time.Duration
	Grants, Untold, Contexts              int
	Connected                             bool
	Hits, Misses, Ended, Stale, Questions int64
	Err                                   error
}

// A program passes the Status method of a grants.Cache. Here it's a function with the
// same fields.
func ExampleGrants() {
	reader := sdkmetric.NewManualReader()
	mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	cacheStatus := func() status {
		return status{ListAge: 12500 * time.Millisecond, Grants: 3, Contexts: 1, Connected: true, Hits: 9, Misses: 2, Ended: 1, Questions: 2}
	}
	if err := otelhook.Grants(mp, cacheStatus); err != nil {
		fmt.Println(err)
		return
	}

	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Gauge[float64]:
			fmt.Println(m.Name, data.DataPoints[0].Value, m.Unit)
		case metricdata.Gauge[int64]:
			fmt.Println(m.Name, data.DataPoints[0].Value, m.Unit)
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				fmt.Println(m.Name, p.Value, strings.TrimSpace(m.Unit+" "+p.Attributes.Encoded(attribute.DefaultEncoder())))
			}
		}
	}
	// Unordered output:
	// grantexhook.grants.list.age 12.5 s
	// grantexhook.grants.connected 1 1
	// grantexhook.grants.cached 3 {grant}
	// grantexhook.grants.untold 0 {grant}
	// grantexhook.grants.contexts 1 {context}
	// grantexhook.grants.checks 9 {check} cache=hit
	// grantexhook.grants.checks 2 {check} cache=miss
	// grantexhook.grants.rejections 1 {check} reason=ended
	// grantexhook.grants.rejections 0 {check} reason=stale
	// grantexhook.grants.questions 2 {request}
}

// TestGrants checks that each field goes to its own metric, and that each collection reads
// the status once.
func TestGrants(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	read := 0
	err := otelhook.Grants(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), func() status {
		read++
		return status{
			ListAge: 1500 * time.Millisecond, Grants: 2, Untold: 3, Contexts: 4, Connected: read == 1,
			Hits: 5, Misses: 6, Ended: 7, Stale: 8, Questions: 9,
		}
	})
	require.NoError(t, err)
	require.Zero(t, read)
	want := map[string]string{
		"grantexhook.grants.list.age{}":               "1.5",
		"grantexhook.grants.cached{}":                 "2",
		"grantexhook.grants.untold{}":                 "3",
		"grantexhook.grants.contexts{}":               "4",
		"grantexhook.grants.connected{}":              "1",
		"grantexhook.grants.checks{cache=hit}":        "5",
		"grantexhook.grants.checks{cache=miss}":       "6",
		"grantexhook.grants.rejections{reason=ended}": "7",
		"grantexhook.grants.rejections{reason=stale}": "8",
		"grantexhook.grants.questions{}":              "9",
	}
	require.Equal(t, want, observer{reader: reader}.points(t))
	want["grantexhook.grants.connected{}"] = "0"
	o := observer{reader: reader}
	require.Equal(t, want, o.points(t))
	require.Equal(t, 2, read)
	for _, m := range o.metrics(t) {
		require.NotEmpty(t, m.Description, m.Name)
		sum, ok := m.Data.(metricdata.Sum[int64])
		counter := strings.HasSuffix(m.Name, "checks") || strings.HasSuffix(m.Name, "rejections") || strings.HasSuffix(m.Name, "questions")
		require.Equal(t, counter, ok && sum.IsMonotonic, m.Name)
	}
}

// TestGrantsGlobal checks that the global MeterProvider may be set later.
func TestGrantsGlobal(t *testing.T) {
	defer otel.SetMeterProvider(metricnoop.NewMeterProvider())
	reader := sdkmetric.NewManualReader()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))) // only the first in a process gets earlier instruments
	require.NoError(t, otelhook.Grants(nil, func() status { return status{Grants: 2} }))
	require.Equal(t, "2", observer{reader: reader}.points(t)["grantexhook.grants.cached{}"])
}

func TestGrantsErrors(t *testing.T) {
	type lacking struct{ ListAge time.Duration }
	type another struct {
		status
		Hits string
	}
	good := func(mp metric.MeterProvider) error { return otelhook.Grants(mp, func() status { return status{} }) }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"nil", otelhook.Grants[status](nil, nil), "otelhook: the status function is nil; use the Status method of a grants.Cache"},
		{"no struct", otelhook.Grants(nil, func() int { return 0 }), "otelhook: status returns int, which is not a struct; use the Status method of a grants.Cache"},
		{"no age", otelhook.Grants(nil, func() struct{} { return struct{}{} }), "otelhook: struct {} has no field ListAge of type time.Duration; "},
		{"no other field", otelhook.Grants(nil, func() lacking { return lacking{} }), "otelhook: otelhook_test.lacking has no field Connected of type bool; "},
		{"another type", otelhook.Grants(nil, func() another { return another{} }), "otelhook: otelhook_test.another has no field Hits of type int64; "},
		{"no instrument", good(brokenGrants{broken: "grantexhook.grants.list.age"}), "otelhook: cannot make grantexhook.grants.list.age"},
		{"no callback", good(brokenGrants{}), "otelhook: cannot register"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorContains(t, tt.err, tt.want)
		})
	}
}

// A brokenGrants has a Meter that can't make one instrument and can't register callbacks.
type brokenGrants struct {
	metricnoop.MeterProvider
	broken string
}

func (p brokenGrants) Meter(string, ...metric.MeterOption) metric.Meter {
	return brokenObserver{brokenMeter{broken: p.broken}}
}

type brokenObserver struct{ brokenMeter }

func (m brokenObserver) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return metricnoop.Float64ObservableGauge{}, m.err(name)
}

func (brokenObserver) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, errors.New("cannot register")
}
