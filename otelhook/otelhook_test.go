package otelhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"grantex.dev/grantexhook/otelhook"
)

// outcomes are grantexhook's, and two that it doesn't have.
var outcomes = []struct {
	name   string
	want   string
	ran    bool
	failed bool
}{
	{"handled", "handled", true, false},
	{"duplicate", "duplicate", false, false},
	{"ignored", "ignored", false, false},
	{"in_flight", "in_flight", false, false},
	{"malformed", "malformed", false, true},
	{"failed", "failed", true, true},
	{"panicked", "panicked", true, true},
	{"timed_out", "timed_out", true, true},
	{"store_failed", "store_failed", false, true},
	{"invented", "other", false, false},
	{"", "other", false, false},
}

// unseen is an error whose text must not be read.
type unseen struct{ t *testing.T }

func (e unseen) Error() string {
	e.t.Error("the error's text was read")
	return "SECRET"
}

func TestOutcome(t *testing.T) {
	for _, tt := range outcomes {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			o.dispatch("grant.created", tt.name, unseen{t})

			span := o.span(t)
			attrs := attributes(span.Attributes())
			require.Equal(t, tt.want, attrs["grantexhook.outcome"])
			require.Empty(t, span.Events())
			status := sdktrace.Status{Code: codes.Unset}
			if tt.failed {
				status = sdktrace.Status{Code: codes.Error, Description: tt.want}
				require.Equal(t, tt.want, attrs["error.type"])
			}
			require.Equal(t, status, span.Status())
			require.Equal(t, tt.failed, attrs["error.type"] != "")

			labels := "{outcome=" + tt.want + ",type=grant.created}"
			points := o.points(t)
			require.Equal(t, "1", points["grantexhook.events"+labels])
			_, measured := points["grantexhook.handler.duration"+labels]
			require.Equal(t, tt.ran, measured)
			require.Len(t, points, map[bool]int{false: 1, true: 2}[tt.ran])
		})
	}
}

func TestType(t *testing.T) {
	tests := []struct {
		name     string
		want     string
		spanName string
	}{
		{"grant.created", "grant.created", "process grant.created"},
		{"grant.revoked", "grant.revoked", "process grant.revoked"},
		{"token.issued", "token.issued", "process token.issued"},
		{"agent.created", "agent.created", "process agent.created"}, // of the Options
		{"agent.deleted", "other", "process"},
		{"other", "other", "process"},
		{"", "other", "process"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t, "agent.created", "other")
			_, end := o.Trace(context.Background(), "evt_1", tt.name, time.Now())
			end("handled", nil)

			span := o.span(t)
			require.Equal(t, tt.spanName, span.Name())
			require.Equal(t, trace.SpanKindConsumer, span.SpanKind())
			want := map[string]string{
				"messaging.system":         "grantex",
				"messaging.operation.name": "process",
				"messaging.operation.type": "process",
				"messaging.message.id":     "evt_1",
				"grantexhook.event.type":   tt.want,
				"grantexhook.outcome":      "handled",
			}
			if tt.want != "other" {
				want["messaging.destination.name"] = tt.want
			}
			require.Equal(t, want, attributes(span.Attributes()))
			require.Len(t, span.Attributes(), len(want))
			require.Equal(t, "grantex.dev/grantexhook/otelhook", span.InstrumentationScope().Name)
			require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", span.InstrumentationScope().SchemaURL)

			points := o.points(t)
			require.Len(t, points, 3)
			require.Contains(t, points, "grantexhook.events{outcome=handled,type="+tt.want+"}")
			require.Contains(t, points, "grantexhook.handler.duration{outcome=handled,type="+tt.want+"}")
			require.Contains(t, points, "grantexhook.event.age{type="+tt.want+"}")
		})
	}
}

func TestEventWithoutID(t *testing.T) {
	o := observe(t)
	_, end := o.Trace(context.Background(), "", "", time.Time{})
	end("malformed", nil)
	require.NotContains(t, attributes(o.span(t).Attributes()), "messaging.message.id")
}

func TestParent(t *testing.T) {
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	state, err := trace.ParseTraceState("vendor=1") // with it, the SDK would keep an invalid link
	require.NoError(t, err)
	tests := []struct {
		name   string
		parent trace.SpanContext
		links  int
	}{
		{"missing", trace.SpanContext{}, 0},
		{"without a span", remote.WithSpanID(trace.SpanID{}).WithTraceState(state), 0},
		{"of this process", remote.WithRemote(false), 1},
		{"remote", remote, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			ctx, end := o.Trace(trace.ContextWithSpanContext(context.Background(), tt.parent), "evt_1", "grant.created", time.Time{})
			_, child := o.tracer.Start(ctx, "of the handler")
			child.End()
			end("handled", nil)

			require.Len(t, o.spans.Ended(), 2)
			inner, span := o.spans.Ended()[0], o.spans.Ended()[1]
			require.Equal(t, span.SpanContext(), trace.SpanContextFromContext(ctx))
			require.Equal(t, span.SpanContext(), inner.Parent())
			require.Len(t, span.Links(), tt.links)
			if tt.links == 0 {
				require.False(t, span.Parent().IsValid())
				return
			}
			require.Equal(t, tt.parent, span.Parent())
			require.Equal(t, tt.parent, span.Links()[0].SpanContext)
		})
	}
}

// A pickySampler records the parameters of its decision.
type pickySampler struct{ asked sdktrace.SamplingParameters }

func (s *pickySampler) Description() string { return "picky" }

func (s *pickySampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	s.asked = p
	return sdktrace.SamplingResult{Decision: sdktrace.Drop}
}

func TestSamplerKnowsTheEvent(t *testing.T) {
	var s pickySampler
	h, err := otelhook.New(&otelhook.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(&s))})
	require.NoError(t, err)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	_, end := h.Trace(trace.ContextWithSpanContext(context.Background(), parent), "evt_1", "grant.created", time.Time{})
	end("handled", nil)
	require.Equal(t, trace.SpanKindConsumer, s.asked.Kind)
	require.Len(t, s.asked.Links, 1)
	require.Equal(t, map[string]string{
		"messaging.system":           "grantex",
		"messaging.operation.name":   "process",
		"messaging.operation.type":   "process",
		"messaging.destination.name": "grant.created",
		"messaging.message.id":       "evt_1",
		"grantexhook.event.type":     "grant.created",
	}, attributes(s.asked.Attributes))
}

func TestHandlerDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := observe(t)
		for _, took := range []time.Duration{time.Millisecond, 9 * time.Second, 9001 * time.Millisecond, time.Hour} {
			_, end := o.Trace(context.Background(), "evt_1", "grant.created", time.Time{})
			time.Sleep(took)
			end("timed_out", nil)
		}
		require.Equal(t, map[string]string{
			"grantexhook.events{outcome=timed_out,type=grant.created}":           "4",
			"grantexhook.handler.duration{outcome=timed_out,type=grant.created}": "4 3618.002",
		}, o.points(t))
		require.Equal(t, 9*time.Second, o.spans.Ended()[1].EndTime().Sub(o.spans.Ended()[1].StartTime()))
	})
}

func TestAge(t *testing.T) {
	tests := []struct {
		name    string
		created func() time.Time
		want    string // number and sum
	}{
		{"unknown", func() time.Time { return time.Time{} }, ""},
		{"now", time.Now, "1 0"},
		{"a moment ago", func() time.Time { return time.Now().Add(-250 * time.Millisecond) }, "1 0.25"},
		{"longest measured", func() time.Time { return time.Now().Add(-607 * time.Second) }, "1 607"},
		{"in the future", func() time.Time { return time.Now().Add(time.Hour) }, "1 0"},
		{"as Grantex writes it", func() time.Time { return time.Now().Add(-time.Minute).UTC().Round(0) }, "1 60"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := observe(t)
				_, end := o.Trace(context.Background(), "evt_1", "grant.created", tt.created())
				time.Sleep(time.Second) // which doesn't count
				end("duplicate", nil)
				require.Equal(t, tt.want, o.points(t)["grantexhook.event.age{type=grant.created}"])
			})
		})
	}
}

// TestRetries checks that each of Grantex's attempts falls into a separate bucket, even if
// it's late.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := observe(t)
		created := time.Now()
		for _, gap := range []time.Duration{0, 60, 90, 150, 270} {
			time.Sleep(gap * time.Second)
			for _, lag := range []time.Duration{0, 25 * time.Second} {
				_, end := o.Trace(context.Background(), "evt_1", "grant.created", created.Add(-lag))
				end("failed", nil)
			}
		}
		for _, m := range o.metrics(t) {
			if m.Name != "grantexhook.event.age" {
				continue
			}
			p := m.Data.(metricdata.Histogram[float64]).DataPoints[0]
			require.Equal(t, []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 240, 480, 720, 1800, 3600, 21600, 86400}, p.Bounds)
			require.Equal(t, []uint64{1, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0}, p.BucketCounts)
			return
		}
		require.Fail(t, "the age is missing")
	})
}

func TestInstruments(t *testing.T) {
	o := observe(t)
	_, end := o.Trace(context.Background(), "evt_1", "grant.created", time.Now())
	end("handled", nil)
	o.Refused(httptest.NewRequest(http.MethodPost, "/", nil), "stale", nil)

	units, monotonic := make(map[string]string), make(map[string]bool)
	for _, m := range o.metrics(t) {
		require.NotEmpty(t, m.Description)
		units[m.Name] = m.Unit
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			monotonic[m.Name] = data.IsMonotonic
		case metricdata.Histogram[float64]:
			if m.Name == "grantexhook.handler.duration" {
				require.Equal(t, []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 9, 10, 30, 60, 300, 1800}, data.DataPoints[0].Bounds)
			}
		}
	}
	require.Equal(t, map[string]string{
		"grantexhook.events":           "{event}",
		"grantexhook.handler.duration": "s",
		"grantexhook.event.age":        "s",
		"grantexhook.rejections":       "{request}",
	}, units)
	require.Equal(t, map[string]bool{"grantexhook.events": true, "grantexhook.rejections": true}, monotonic)
}

// TestContextHasEnded checks that a handler that timed out is recorded too.
func TestContextHasEnded(t *testing.T) {
	o := observe(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, end := o.Trace(ctx, "evt_1", "grant.created", time.Time{})
	cancel()
	end("timed_out", context.DeadlineExceeded)
	o.span(t)
	require.Len(t, o.points(t), 2)
}

// TestEndDuringPanic checks that the SDK doesn't write a handler's panic into the span.
func TestEndDuringPanic(t *testing.T) {
	o := observe(t)
	require.PanicsWithValue(t, "SECRET", func() {
		_, end := o.Trace(context.Background(), "evt_1", "grant.created", time.Time{})
		defer end("panicked", errors.New("SECRET"))
		panic("SECRET")
	})
	span := o.span(t)
	require.Empty(t, span.Events())
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "panicked"}, span.Status())
}

func TestEndTwice(t *testing.T) {
	o := observe(t)
	_, end := o.Trace(context.Background(), "evt_1", "grant.created", time.Time{})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { end("handled", nil) })
	}
	wg.Wait()
	o.span(t)
	require.Equal(t, "1", o.points(t)["grantexhook.events{outcome=handled,type=grant.created}"])
}

func TestEndNever(t *testing.T) {
	o := observe(t)
	o.Trace(context.Background(), "evt_1", "grant.created", time.Now())
	require.Empty(t, o.spans.Ended())
	require.Len(t, o.points(t), 1)
	require.Contains(t, o.points(t), "grantexhook.event.age{type=grant.created}")
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name string
		want string
	}{
		{"no_signature", "no_signature"},
		{"bad_signature", "bad_signature"},
		{"stale", "stale"},
		{"too_large", "too_large"},
		{"unreadable", "unreadable"},
		{"invented", "other"},
		{"", "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			ctx, server := o.tracer.Start(context.Background(), "POST /webhooks/grantex")
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", iotest.ErrReader(errors.New("the body was read")))
			before := r.Clone(ctx)
			o.Refused(r, tt.name, unseen{t})
			server.End()
			require.Equal(t, before.Header, r.Header)
			_, err := r.Body.Read(make([]byte, 1))
			require.EqualError(t, err, "the body was read")

			require.Equal(t, map[string]string{"grantexhook.rejection.reason": tt.want}, attributes(o.span(t).Attributes()))
			require.Equal(t, sdktrace.Status{Code: codes.Unset}, o.span(t).Status())
			require.Empty(t, o.span(t).Events())
			require.Equal(t, map[string]string{"grantexhook.rejections{reason=" + tt.want + "}": "1"}, o.points(t))
		})
	}
}

func TestRefusedWithoutSpan(t *testing.T) {
	o := observe(t)
	o.Refused(httptest.NewRequest(http.MethodPost, "/", nil), "stale", nil)
	require.Empty(t, o.spans.Ended())
	require.Equal(t, map[string]string{"grantexhook.rejections{reason=stale}": "1"}, o.points(t))
}

// TestExemplars checks that each measurement leads to a trace. An event's metrics lead to
// the event's span, and a rejection to the request's span.
func TestExemplars(t *testing.T) {
	o := observe(t)
	ctx, server := o.tracer.Start(context.Background(), "POST /webhooks/grantex")
	eventCtx, end := o.Trace(ctx, "evt_1", "grant.created", time.Now())
	end("handled", nil)
	o.Refused(httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil), "stale", nil)

	event, request := trace.SpanContextFromContext(eventCtx).SpanID(), server.SpanContext().SpanID()
	require.Equal(t, map[string]string{
		"grantexhook.events":           event.String(),
		"grantexhook.handler.duration": event.String(),
		"grantexhook.event.age":        event.String(),
		"grantexhook.rejections":       request.String(),
	}, exemplars(t, o))
}

// exemplars returns the span of the first exemplar of each metric.
func exemplars(t *testing.T, o observer) map[string]string {
	t.Helper()
	spans := make(map[string]string)
	for _, m := range o.metrics(t) {
		var id []byte
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			require.NotEmpty(t, data.DataPoints[0].Exemplars, m.Name)
			id = data.DataPoints[0].Exemplars[0].SpanID
		case metricdata.Histogram[float64]:
			require.NotEmpty(t, data.DataPoints[0].Exemplars, m.Name)
			id = data.DataPoints[0].Exemplars[0].SpanID
		}
		spans[m.Name] = fmt.Sprintf("%x", id)
	}
	return spans
}

// TestLabelsAreBounded checks that text from the sender or a caller doesn't create a time
// series.
func TestLabelsAreBounded(t *testing.T) {
	o := observe(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			word := fmt.Sprintf("word-%d", i)
			_, end := o.Trace(context.Background(), word, word, time.Now())
			end(word, errors.New(word))
			o.Refused(httptest.NewRequest(http.MethodPost, "/", nil), word, errors.New(word))
		})
	}
	wg.Wait()
	points := o.points(t)
	delete(points, "grantexhook.event.age{type=other}") // its sum varies
	require.Equal(t, map[string]string{
		"grantexhook.events{outcome=other,type=other}": "100",
		"grantexhook.rejections{reason=other}":         "100",
	}, points)
}

func TestZeroHook(t *testing.T) {
	tests := []struct {
		name string
		hook *otelhook.Hook
	}{
		{"zero", new(otelhook.Hook)},
		{"nil", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := context.WithValue(context.Background(), t, t)
			ctx, end := tt.hook.Trace(before, "evt_1", "grant.created", time.Now())
			require.Equal(t, before, ctx)
			end("handled", nil)
			end("handled", nil)
			tt.hook.Refused(httptest.NewRequest(http.MethodPost, "/", nil), "stale", nil)
		})
	}
}

func TestGlobalProviders(t *testing.T) {
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() {
		otel.SetTracerProvider(tracenoop.NewTracerProvider())
		otel.SetMeterProvider(metricnoop.NewMeterProvider())
	})
	for _, opts := range []*otelhook.Options{nil, {}} {
		h, err := otelhook.New(opts)
		require.NoError(t, err)
		observer{Hook: h}.dispatch("grant.created", "handled", nil)
	}
	require.Len(t, spans.Ended(), 2)
	require.Equal(t, "2", observer{reader: reader}.points(t)["grantexhook.events{outcome=handled,type=grant.created}"])
}

// A brokenProvider's Meter fails to make one instrument.
type brokenProvider struct {
	metricnoop.MeterProvider
	broken string
}

func (p brokenProvider) Meter(string, ...metric.MeterOption) metric.Meter {
	return brokenMeter{broken: p.broken}
}

type brokenMeter struct {
	metricnoop.Meter
	broken string
}

func (m brokenMeter) err(name string) error {
	if name == m.broken {
		return errors.New("cannot make " + name)
	}
	return nil
}

func (m brokenMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return metricnoop.Int64Counter{}, m.err(name)
}

func (m brokenMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return metricnoop.Float64Histogram{}, m.err(name)
}

func without(instrument string) otelhook.Options {
	return otelhook.Options{MeterProvider: brokenProvider{broken: instrument}}
}

func TestNewErrors(t *testing.T) {
	tests := []struct {
		name string
		opts otelhook.Options
		want string
	}{
		{"empty type", otelhook.Options{Types: []string{"agent.created", ""}}, "otelhook: Options.Types[1] is empty; remove it"},
		{"no events", without("grantexhook.events"), "otelhook: cannot make grantexhook.events"},
		{"no rejections", without("grantexhook.rejections"), "otelhook: cannot make grantexhook.rejections"},
		{"no duration", without("grantexhook.handler.duration"), "otelhook: cannot make grantexhook.handler.duration"},
		{"no age", without("grantexhook.event.age"), "otelhook: cannot make grantexhook.event.age"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := otelhook.New(&tt.opts)
			require.EqualError(t, err, tt.want)
			require.Nil(t, h)
		})
	}
}

// TestTypesAreCopied checks that a Hook is immutable.
func TestTypesAreCopied(t *testing.T) {
	types := []string{"agent.created"}
	o := observe(t, types...)
	types[0] = "agent.deleted"
	o.dispatch("agent.created", "handled", nil)
	o.dispatch("agent.deleted", "handled", nil)
	points := o.points(t)
	require.Equal(t, "1", points["grantexhook.events{outcome=handled,type=agent.created}"])
	require.Equal(t, "1", points["grantexhook.events{outcome=handled,type=other}"])
}
