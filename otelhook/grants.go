package otelhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Grants creates metrics of a grants.Cache, which it reads when they're collected:
//
//	err := otelhook.Grants(nil, cache.Status)
//
// The MeterProvider is the global one if nil. Call Grants once for each MeterProvider, since
// the metrics don't say which Cache they're about. They are:
//   - grantexhook.grants.list.age: gauge, in seconds. How old the last complete list is.
//     Above the Cache's MaxAge, by default 300, that list proves nothing.
//   - grantexhook.grants.connected: gauge. 1 if the live stream is connected, otherwise 0.
//   - grantexhook.grants.cached: up-down counter. Active grants in memory.
//   - grantexhook.grants.untold: up-down counter. Ended grants that Options.Ended hasn't
//     handled yet. If it stays above 0, Ended fails or Run isn't running.
//   - grantexhook.grants.contexts: up-down counter. Open Contexts.
//   - grantexhook.grants.checks: counter. The label cache is hit if memory answered,
//     otherwise miss.
//   - grantexhook.grants.rejections: counter. Checks that failed. The label reason is ended
//     or stale.
//   - grantexhook.grants.questions: counter. Requests to Grantex for a single grant.
//
// Grants returns an error if status is nil, if its result isn't like grants.Status, or if
// the MeterProvider returns an error. This package doesn't import grants, so S can be any
// struct with the fields of grants.Status that the metrics need. It may have others.
func Grants[S any](mp metric.MeterProvider, status func() S) error {
	if status == nil {
		return errors.New("otelhook: the status function is nil; use the Status method of a grants.Cache")
	}
	if err := checkFields(reflect.TypeFor[S]()); err != nil {
		return err
	}
	g, err := newGauges(cmp.Or(mp, otel.GetMeterProvider()).Meter(scope))
	if err != nil {
		return fmt.Errorf("otelhook: %w", err)
	}
	return g.register(func() reflect.Value { return reflect.ValueOf(status()) })
}

// A series is what one field of grants.Status becomes.
type series struct {
	field  string
	kind   reflect.Kind
	metric string
	labels metric.MeasurementOption
}

// listAge is the only field that needs a calculation: to seconds.
const listAge = "ListAge"

var allSeries = []series{
	{"Connected", reflect.Bool, "connected", labels()},
	{"Grants", reflect.Int, "cached", labels()},
	{"Untold", reflect.Int, "untold", labels()},
	{"Contexts", reflect.Int, "contexts", labels()},
	{"Hits", reflect.Int64, "checks", labels(attribute.String("cache", "hit"))},
	{"Misses", reflect.Int64, "checks", labels(attribute.String("cache", "miss"))},
	{"Ended", reflect.Int64, "rejections", labels(attribute.String("reason", "ended"))},
	{"Stale", reflect.Int64, "rejections", labels(attribute.String("reason", "stale"))},
	{"Questions", reflect.Int64, "questions", labels()},
}

func checkFields(t reflect.Type) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("otelhook: status returns %v, which is not a struct; use the Status method of a grants.Cache", t)
	}
	if f, ok := t.FieldByName(listAge); !ok || f.Type != reflect.TypeFor[time.Duration]() {
		return errField(t, listAge, "time.Duration")
	}
	for _, s := range allSeries {
		if f, ok := t.FieldByName(s.field); !ok || f.Type.Kind() != s.kind {
			return errField(t, s.field, s.kind.String())
		}
	}
	return nil
}

func errField(t reflect.Type, field, kind string) error {
	return fmt.Errorf("otelhook: %v has no field %s of type %s; use the Status method of a grants.Cache, and a version of otelhook that fits", t, field, kind)
}

// gauges are the instruments for a Cache, by the last part of their names.
type gauges struct {
	meter metric.Meter
	age   metric.Float64ObservableGauge
	ints  map[string]metric.Int64Observable
}

func newGauges(m metric.Meter) (*gauges, error) {
	g := &gauges{meter: m, ints: make(map[string]metric.Int64Observable)}
	const prefix = "grantexhook.grants."
	var errs [8]error
	g.age, errs[0] = m.Float64ObservableGauge(prefix+"list.age", metric.WithUnit("s"),
		metric.WithDescription("How old the last complete list of grants is."))
	g.ints["connected"], errs[1] = m.Int64ObservableGauge(prefix+"connected", metric.WithUnit("1"),
		metric.WithDescription("Whether the live stream is connected."))
	g.ints["cached"], errs[2] = m.Int64ObservableUpDownCounter(prefix+"cached", metric.WithUnit("{grant}"),
		metric.WithDescription("Active grants in memory."))
	g.ints["untold"], errs[3] = m.Int64ObservableUpDownCounter(prefix+"untold", metric.WithUnit("{grant}"),
		metric.WithDescription("Ended grants that Options.Ended hasn't handled yet."))
	g.ints["contexts"], errs[4] = m.Int64ObservableUpDownCounter(prefix+"contexts", metric.WithUnit("{context}"),
		metric.WithDescription("Open Contexts."))
	g.ints["checks"], errs[5] = m.Int64ObservableCounter(prefix+"checks", metric.WithUnit("{check}"),
		metric.WithDescription("Checks of grants."))
	g.ints["rejections"], errs[6] = m.Int64ObservableCounter(prefix+"rejections", metric.WithUnit("{check}"),
		metric.WithDescription("Checks of grants that failed."))
	g.ints["questions"], errs[7] = m.Int64ObservableCounter(prefix+"questions", metric.WithUnit("{request}"),
		metric.WithDescription("Requests to Grantex for a single grant."))
	return g, errors.Join(errs[:]...)
}

// register makes each collection read the status once, so its values fit together.
func (g *gauges) register(status func() reflect.Value) error {
	all := []metric.Observable{g.age}
	for _, i := range g.ints {
		all = append(all, i)
	}
	_, err := g.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		v := status()
		o.ObserveFloat64(g.age, time.Duration(v.FieldByName(listAge).Int()).Seconds())
		for _, s := range allSeries {
			o.ObserveInt64(g.ints[s.metric], number(v.FieldByName(s.field)), s.labels)
		}
		return nil
	}, all...)
	if err != nil {
		return fmt.Errorf("otelhook: %w", err)
	}
	return nil
}

// number returns an integer, or whether a bool is true.
func number(v reflect.Value) int64 {
	switch {
	case v.Kind() != reflect.Bool:
		return v.Int()
	case v.Bool():
		return 1
	default:
		return 0
	}
}
