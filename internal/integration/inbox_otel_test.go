package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/riverqueue/rivercontrib/otelriver"
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
	"grantex.dev/grantexhook/riverinbox"
)

// An otelInbox is an inbox with OpenTelemetry, set up as riverinbox's documentation
// shows.
type otelInbox struct {
	*testInbox
	receiver http.Handler
	spans    *tracetest.InMemoryExporter
	reader   *sdkmetric.ManualReader
}

// newOtelInbox handles grant.created and gives grant.revoked up after two attempts.
func newOtelInbox(t *testing.T, p place) *otelInbox {
	t.Helper()
	o := &otelInbox{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(o.spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(o.reader))
	hook, err := otelhook.New(&otelhook.Options{TracerProvider: tracers, MeterProvider: meters})
	require.NoError(t, err)
	d := &grantexhook.Dispatcher{Trace: hook.Trace, Log: slog.New(slog.DiscardHandler)}
	grantexhook.On(d, func(context.Context, grantexhook.Event[grantexhook.GrantCreated]) error { return nil })
	grantexhook.On(d, func(context.Context, grantexhook.Event[grantexhook.GrantRevoked]) error {
		return errors.New("broken for good")
	})
	o.testInbox = newInbox(t, p, d.Dispatch, riverinbox.Options{Configure: func(c *river.Config) {
		c.Plugins = append(c.Plugins, otelriver.NewMiddleware(&otelriver.MiddlewareConfig{
			EnableSemanticMetrics:  true,
			EnableTracePropagation: true,
			TracerProvider:         tracers, // the global providers if nil
			MeterProvider:          meters,
		}))
		c.MaxAttempts = 2
		c.RetryPolicy = noWait{}
	}})
	o.receiver = spanned(tracers.Tracer("test"), o.Handler(newInboxVerifier(t).Middleware))
	return o
}

// noWait is River's schedule without the waits.
type noWait struct{}

func (noWait) NextRetry(*rivertype.JobRow) time.Time { return time.Now() }

// spanned does the part of otelhttp.NewHandler that matters here.
func spanned(tracer trace.Tracer, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := tracer.Start(r.Context(), "server", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (o *otelInbox) deliver(t *testing.T, p grantexhook.Payload) {
	t.Helper()
	w := httptest.NewRecorder()
	o.receiver.ServeHTTP(w, hooktest.NewRequest(t, inboxSecret, p))
	require.Equal(t, http.StatusOK, w.Code)
}

// span returns the only span with a name.
func (o *otelInbox) span(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	var found []tracetest.SpanStub
	for _, s := range o.spans.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

// The test checks that each attempt at an event starts a trace, which links to the
// request.
func TestInboxTraces(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		o := newOtelInbox(t, p)
		o.start(t)
		o.deliver(t, grantexhook.GrantCreated{GrantID: "grnt_1"})
		require.Eventually(t, func() bool { return o.count(t, rivertype.JobStateCompleted) == 1 }, 20*time.Second, 50*time.Millisecond)

		server, insert := o.span(t, "server"), o.span(t, "river.insert_many")
		work, process := o.span(t, "river.work"), o.span(t, "process grant.created")
		require.Equal(t, server.SpanContext, insert.Parent)
		require.Len(t, work.Links, 1)
		require.Equal(t, insert.SpanContext.TraceID(), work.Links[0].SpanContext.TraceID())
		require.Equal(t, insert.SpanContext.SpanID(), work.Links[0].SpanContext.SpanID())
		require.Equal(t, work.SpanContext, process.Parent)
		require.NotEqual(t, server.SpanContext.TraceID(), work.SpanContext.TraceID())
	})
}

// The test checks that events are counted when they're stored, rejected by the
// database, handled or given up, and that duplicates are counted.
func TestInboxMetrics(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		o := newOtelInbox(t, p)
		o.start(t)
		created := hooktest.NewEvent(grantexhook.GrantCreated{GrantID: "grnt_1"})
		o.deliver(t, created)
		o.deliver(t, created)
		o.deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
		require.Eventually(t, func() bool {
			return o.count(t, rivertype.JobStateCompleted) == 1 && o.count(t, rivertype.JobStateDiscarded) == 1
		}, 20*time.Second, 50*time.Millisecond)

		db, err := sql.Open(p.Driver, p.URL)
		require.NoError(t, err)
		defer db.Close()
		execSQL(t, db, "ALTER TABLE river_job RENAME TO elsewhere")
		w := httptest.NewRecorder()
		o.receiver.ServeHTTP(w, hooktest.NewRequest(t, inboxSecret, created))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		execSQL(t, db, "ALTER TABLE elsewhere RENAME TO river_job")

		insert, work := "messaging.operation.name=insert_many,messaging.system=river", "messaging.operation.name=work,messaging.system=river"
		want := map[string]int64{
			"river.insert_count{status=ok,unique_skipped_as_duplicate=false}":    2,
			"river.insert_count{status=ok,unique_skipped_as_duplicate=true}":     1,
			"river.insert_count{status=error,unique_skipped_as_duplicate=false}": 1,
			"river.work_count{attempt=1,status=ok}":                              1,
			"river.work_count{attempt=1,status=error}":                           1,
			"river.work_count{attempt=2,status=error}":                           1, // given up
			"messaging.client.sent.messages{" + insert + "}":                     4,
			"messaging.client.consumed.messages{" + work + "}":                   3,
			"messaging.process.duration{" + work + "}":                           3,
			"grantexhook.events{outcome=handled,type=grant.created}":             1,
			"grantexhook.events{outcome=failed,type=grant.revoked}":              2,
		}
		got := o.counts(t)
		for name, n := range want {
			require.Equal(t, n, got[name], "%s in %v", name, got)
		}
	})
}

// counts returns the values of counters and the counts of histograms. It leaves
// out the labels that are the same for all events of an inbox.
func (o *otelInbox) counts(t *testing.T) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, o.reader.Collect(context.Background(), &rm))
	counts := make(map[string]int64)
	name := func(m metricdata.Metrics, s attribute.Set) string {
		s, _ = s.Filter(attribute.NewDenyKeysFilter("kind", "priority", "queue", "tag"))
		return fmt.Sprintf("%s{%s}", m.Name, s.Encoded(attribute.DefaultEncoder()))
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					counts[name(m, p.Attributes)] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					counts[name(m, p.Attributes)] += int64(p.Count)
				}
			}
		}
	}
	return counts
}

// The test checks that River's middleware puts the text of a handler's error into a
// span, which the documentation warns about, and no other part of the event.
func TestInboxTracesShow(t *testing.T) {
	onEachInbox(t, func(t *testing.T, p place) {
		o := newOtelInbox(t, p)
		o.start(t)
		o.deliver(t, grantexhook.GrantRevoked{GrantID: otelGrant})
		require.Eventually(t, func() bool { return o.count(t, rivertype.JobStateDiscarded) == 1 }, 20*time.Second, 50*time.Millisecond)
		var failed int
		for _, s := range o.spans.GetSpans() {
			if s.Name == "river.work" {
				require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "broken for good"}, s.Status)
				failed++
			}
			require.NotContains(t, fmt.Sprint(otelAttributes(s.Attributes), s.Events), otelGrant)
		}
		require.Equal(t, 2, failed)
	})
}
