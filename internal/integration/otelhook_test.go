package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
	"grantex.dev/grantexhook/otelhook"
)

const (
	otelSecret    = "6ffb3e1f8c0e4d5a9b7c2d1e0f3a4b5c6d7e8f9a0b1c2d3e"
	otelPrincipal = "principal-4711"
	otelGrant     = "grnt_0815"
)

// An otelReceiver is a webhook with OpenTelemetry around it.
type otelReceiver struct {
	http.Handler
	hook   *otelhook.Hook
	spans  *tracetest.InMemoryExporter
	reader *sdkmetric.ManualReader
	tracer trace.Tracer // of the server and of the handlers

	headers []http.Header // of the requests that came
}

// newOtelReceiver handles grant.created, fails on grant.revoked with an error that
// quotes what must not be seen, and panics with that error on token.issued.
func newOtelReceiver(t *testing.T) *otelReceiver {
	t.Helper()
	o := &otelReceiver{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(o.spans))
	o.tracer = tp.Tracer("test")
	var err error
	o.hook, err = otelhook.New(&otelhook.Options{
		TracerProvider: tp,
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(o.reader)),
	})
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	v, err := grantexhook.NewVerifier(otelSecret, &grantexhook.Options{RequireTimestamp: true, Refused: o.hook.Refused, Log: log})
	require.NoError(t, err)
	d := &grantexhook.Dispatcher{Trace: o.hook.Trace, Log: log}
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantCreated]) error {
		_, span := o.tracer.Start(ctx, "handler")
		defer span.End()
		time.Sleep(time.Second)
		return nil
	})
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.GrantRevoked]) error {
		return fmt.Errorf("no session of %s for %s, %s", otelPrincipal, e.Data.GrantID, otelSecret)
	})
	grantexhook.On(d, func(ctx context.Context, e grantexhook.Event[grantexhook.TokenIssued]) error {
		panic(e.Data.PrincipalID + otelSecret)
	})
	inner := v.Middleware(d)
	// This does the part of otelhttp.NewHandler that matters here.
	o.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := o.tracer.Start(r.Context(), "server", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		o.headers = append(o.headers, r.Header.Clone())
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
	return o
}

// deliver makes one attempt and returns its status.
func (o *otelReceiver) deliver(t *testing.T, secret string, p grantexhook.Payload) int {
	t.Helper()
	report := hooktest.Sender{Secret: secret, Handler: o, Attempts: 1}.Deliver(t, p)
	return report[0].Status
}

// named returns the spans with a name, in the order in which they ended.
func (o *otelReceiver) named(name string) []tracetest.SpanStub {
	return slices.DeleteFunc(slices.Clone(o.spans.GetSpans()), func(s tracetest.SpanStub) bool { return s.Name != name })
}

// points returns the measurements. A histogram has its count and sum.
func (o *otelReceiver) points(t *testing.T) map[string]string {
	t.Helper()
	points := make(map[string]string)
	for _, m := range o.metrics(t) {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				points[m.Name+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = fmt.Sprint(p.Value)
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				points[m.Name+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = fmt.Sprint(p.Count, " ", p.Sum)
			}
		}
	}
	return points
}

func (o *otelReceiver) metrics(t *testing.T) []metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, o.reader.Collect(context.Background(), &rm))
	if len(rm.ScopeMetrics) == 0 {
		return nil
	}
	return rm.ScopeMetrics[0].Metrics
}

// exported returns all that an exporter would get, as text.
func (o *otelReceiver) exported(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	for _, s := range o.spans.GetSpans() {
		fmt.Fprintf(&b, "%s %+v %+v %+v %+v\n", s.Name, otelAttributes(s.Attributes), s.Status, s.Events, s.Links)
	}
	fmt.Fprintf(&b, "%+v\n%+v\n", o.points(t), o.metrics(t))
	return b.String()
}

func otelAttributes(kvs []attribute.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

func TestOtelHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOtelReceiver(t)
		event := hooktest.NewEvent(grantexhook.GrantCreated{GrantID: otelGrant, PrincipalID: otelPrincipal})
		event.CreatedAt = time.Now().Add(-2 * time.Second)
		require.Equal(t, http.StatusOK, o.deliver(t, otelSecret, event))

		server, span, handler := o.named("server")[0], o.named("process grant.created")[0], o.named("handler")[0]
		require.False(t, server.Parent.IsValid())
		require.Equal(t, server.SpanContext, span.Parent)
		require.Len(t, span.Links, 1)
		require.Equal(t, server.SpanContext, span.Links[0].SpanContext)
		require.Equal(t, span.SpanContext, handler.Parent)
		require.Equal(t, trace.SpanKindConsumer, span.SpanKind)
		require.Equal(t, time.Second, span.EndTime.Sub(span.StartTime))
		require.Equal(t, sdktrace.Status{Code: codes.Unset}, span.Status)
		require.Equal(t, map[string]string{
			"messaging.system":           "grantex",
			"messaging.operation.name":   "process",
			"messaging.operation.type":   "process",
			"messaging.destination.name": "grant.created",
			"messaging.message.id":       event.ID,
			"grantexhook.event.type":     "grant.created",
			"grantexhook.outcome":        "handled",
		}, otelAttributes(span.Attributes))
		require.Equal(t, map[string]string{
			"grantexhook.events{outcome=handled,type=grant.created}":           "1",
			"grantexhook.handler.duration{outcome=handled,type=grant.created}": "1 1",
			"grantexhook.event.age{type=grant.created}":                        "1 2",
		}, o.points(t))
	})
}

func TestOtelFailed(t *testing.T) {
	tests := []struct {
		name    string
		data    grantexhook.Payload
		outcome string
	}{
		{"error", grantexhook.GrantRevoked{GrantID: otelGrant}, "failed"},
		{"panic", grantexhook.TokenIssued{GrantID: otelGrant, PrincipalID: otelPrincipal}, "panicked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOtelReceiver(t)
				require.Equal(t, http.StatusInternalServerError, o.deliver(t, otelSecret, tt.data))
				eventType := tt.data.EventType()
				span := o.named("process " + eventType)[0]
				require.Equal(t, sdktrace.Status{Code: codes.Error, Description: tt.outcome}, span.Status)
				require.Equal(t, tt.outcome, otelAttributes(span.Attributes)["error.type"])
				require.Empty(t, span.Events)
				require.Equal(t, o.named("server")[0].SpanContext, span.Parent)
				require.Equal(t, map[string]string{
					"grantexhook.events{outcome=" + tt.outcome + ",type=" + eventType + "}":           "1",
					"grantexhook.handler.duration{outcome=" + tt.outcome + ",type=" + eventType + "}": "1 0",
					"grantexhook.event.age{type=" + eventType + "}":                                   "1 0",
				}, o.points(t))
			})
		})
	}
}

func TestOtelRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOtelReceiver(t)
		require.Equal(t, http.StatusUnauthorized, o.deliver(t, "not the secret", grantexhook.GrantRevoked{GrantID: otelGrant}))
		require.Len(t, o.spans.GetSpans(), 1)
		require.Equal(t, map[string]string{"grantexhook.rejection.reason": "bad_signature"}, otelAttributes(o.named("server")[0].Attributes))
		require.Equal(t, map[string]string{"grantexhook.rejections{reason=bad_signature}": "1"}, o.points(t))
	})
}

// TestOtelShowsNothing checks that no secret, signature, principal or other part of a
// body reaches an exporter, whatever the outcome of a delivery.
func TestOtelShowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOtelReceiver(t)
		payloads := []grantexhook.Payload{
			grantexhook.GrantCreated{GrantID: otelGrant, PrincipalID: otelPrincipal, Scopes: []string{"scope-1"}},
			grantexhook.GrantRevoked{GrantID: otelGrant},
			grantexhook.TokenIssued{GrantID: otelGrant, PrincipalID: otelPrincipal},
			hooktest.Event{Type: "invented." + otelPrincipal},
		}
		for _, p := range payloads {
			o.deliver(t, otelSecret, p)
			o.deliver(t, "not the secret", p)
		}
		malformed := []byte(`{"id":"evt_2","type":"grant.created","data":"` + otelPrincipal + otelGrant + `"}`)
		r := hooktest.NewRequest(t, otelSecret, payloads[0])
		r.Body = io.NopCloser(bytes.NewReader(malformed))
		grantexhook.Sign(r.Header, otelSecret, malformed, time.Now())
		o.ServeHTTP(httptest.NewRecorder(), r)

		require.Len(t, o.headers, 9)
		exported := o.exported(t)
		for _, outcome := range []string{"handled", "failed", "panicked", "ignored", "malformed", "bad_signature"} {
			require.Contains(t, exported, outcome)
		}
		for _, secret := range []string{otelSecret, "not the secret", otelPrincipal, otelGrant, "scope-1"} {
			require.NotContains(t, exported, secret)
		}
		for _, h := range o.headers {
			require.Empty(t, h.Get("Traceparent"))
			for _, name := range []string{grantexhook.HeaderSignature, grantexhook.HeaderSignatureV2} {
				require.NotContains(t, exported, strings.TrimPrefix(h.Get(name), "sha256="))
			}
		}
	})
}

// TestOtelKnowsEveryWord checks that otelhook, which doesn't import grantexhook, has
// the same words.
func TestOtelKnowsEveryWord(t *testing.T) {
	o := newOtelReceiver(t)
	outcomes := []string{
		grantexhook.OutcomeHandled, grantexhook.OutcomeDuplicate, grantexhook.OutcomeIgnored,
		grantexhook.OutcomeInFlight, grantexhook.OutcomeMalformed, grantexhook.OutcomeFailed,
		grantexhook.OutcomePanicked, grantexhook.OutcomeTimedOut, grantexhook.OutcomeStoreFailed,
	}
	types := []string{grantexhook.TypeGrantCreated, grantexhook.TypeGrantRevoked, grantexhook.TypeTokenIssued}
	for _, eventType := range types {
		for _, outcome := range outcomes {
			_, end := o.hook.Trace(t.Context(), "evt_1", eventType, time.Time{})
			end(outcome, nil)
		}
	}
	points := o.points(t)
	for _, eventType := range types {
		for _, outcome := range outcomes {
			require.Equal(t, "1", points["grantexhook.events{outcome="+outcome+",type="+eventType+"}"])
		}
	}

	for _, reason := range []string{
		grantexhook.ReasonNoSignature, grantexhook.ReasonBadSignature, grantexhook.ReasonStale,
		grantexhook.ReasonTooLarge, grantexhook.ReasonUnreadable,
	} {
		o.hook.Refused(httptest.NewRequest(http.MethodPost, "/", nil), reason, nil)
		require.Equal(t, "1", o.points(t)["grantexhook.rejections{reason="+reason+"}"])
	}
}
