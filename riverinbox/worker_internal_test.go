package riverinbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
)

func TestWorkerLogsGivingUp(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	failed := errors.New("broken for good")
	panics := func(v any) func(context.Context) error { return func(context.Context) error { panic(v) } }
	exits := func(context.Context) error { runtime.Goexit(); return nil }
	waits := func(ctx context.Context) error { return fmt.Errorf("waiting: %w", ctx.Err()) }
	fails := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	tests := []struct {
		name     string
		ctx      context.Context
		attempt  int
		dispatch func(ctx context.Context) error
		err      string // of the job
		givenUp  bool
	}{
		{"handled", t.Context(), 3, fails(nil), "", false},
		{"an attempt before the last", t.Context(), 2, fails(failed), "broken for good", false},
		{"the last attempt", t.Context(), 3, fails(failed), "broken for good", true},
		{"a panic in the last attempt", t.Context(), 3, panics("sorry"), "riverinbox: dispatch panicked: sorry", true},
		{"a panic that net/http knows", t.Context(), 3, panics(http.ErrAbortHandler), "riverinbox: dispatch panicked: net/http: abort Handler", true},
		{"a goroutine that ends", t.Context(), 3, exits, "riverinbox: the handler ended its goroutine", true},
		{"interrupted by Stop", interrupted, 3, waits, "waiting: context canceled", false},
		{"another error while Stop interrupts", interrupted, 3, fails(failed), "broken for good", true},
		{"another context that was canceled", t.Context(), 3, fails(context.Canceled), "context canceled", true},
		{"a snooze", t.Context(), 3, fails(river.JobSnooze(time.Minute)), "JobSnoozeError", false},
		{"a text that PostgreSQL rejects", t.Context(), 3, fails(errors.New("no account eve\x00")), "no account eve\uFFFD", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			w := &worker{log: slog.New(slog.NewTextHandler(&log, nil)), dispatch: func(ctx context.Context, body []byte) error {
				require.Equal(t, "body", string(body))
				return test.dispatch(ctx)
			}}
			err := w.Work(test.ctx, &river.Job[event]{
				JobRow: &rivertype.JobRow{Attempt: test.attempt, MaxAttempts: 3},
				Args:   event{"evt_1", "a.b", []byte("body")},
			})
			if test.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.err)
			}
			require.Equal(t, test.givenUp, strings.Contains(log.String(), `level=ERROR msg="riverinbox: event given up" event=evt_1 type=a.b attempts=3`))
		})
	}
}

// The test checks that the worker logs the stack of a panic, since River can't: the
// goroutine has ended by then.
func TestWorkerLogsAPanic(t *testing.T) {
	var log bytes.Buffer
	w := &worker{log: slog.New(slog.NewJSONHandler(&log, nil)), dispatch: func(context.Context, []byte) error { panic("sorry") }}
	err := w.Work(t.Context(), &river.Job[event]{
		JobRow: &rivertype.JobRow{Attempt: 1, MaxAttempts: 3},
		Args:   event{"evt_1", "a.b", []byte("the body")},
	})
	require.EqualError(t, err, "riverinbox: dispatch panicked: sorry")
	var line struct{ Level, Msg, Event, Type, Stack string }
	require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line")
	require.Contains(t, line.Stack, "TestWorkerLogsAPanic.func1")
	line.Stack = ""
	require.Equal(t, struct{ Level, Msg, Event, Type, Stack string }{"ERROR", "riverinbox: dispatch panicked", "evt_1", "a.b", ""}, line)
	require.NotContains(t, log.String(), "the body")
}

// misfit is the error of a Dispatcher that can't decode an event.
type misfit bool

func (m misfit) Error() string   { return "data.grantId: number, string wanted" }
func (m misfit) Malformed() bool { return bool(m) }

func TestWorkerLogsTheFirstMalformedAttempt(t *testing.T) {
	tests := []struct {
		name     string
		err      error
		metadata string
		logged   bool
	}{
		{"malformed", misfit(true), `{}`, true},
		{"malformed, wrapped", fmt.Errorf("dispatch: %w", misfit(true)), `{"traceparent":"00-1"}`, true},
		{"no metadata", misfit(true), ``, true},
		{"logged before", misfit(true), `{"grantexhook_malformed": true}`, false},
		{"an error that isn't malformed", misfit(false), `{}`, false},
		{"another failure", errors.New("failed"), `{}`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			w := &worker{log: slog.New(slog.NewTextHandler(&log, nil)), dispatch: func(context.Context, []byte) error { return test.err }}
			err := w.Work(t.Context(), &river.Job[event]{
				JobRow: &rivertype.JobRow{ID: 7, Attempt: 2, MaxAttempts: 3, Metadata: []byte(test.metadata)},
				Args:   event{"evt_1", "a.b", []byte("the body")},
			})
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.logged, strings.Contains(log.String(), "level=ERROR msg=\"riverinbox: event malformed"))
			require.Equal(t, test.logged, strings.Contains(log.String(), "event=evt_1 type=a.b job=7 error="))
			require.NotContains(t, log.String(), "the body")
		})
	}
}

// The test checks that River can still find its own errors in the errors of a handler.
func TestWorkerKeepsTheError(t *testing.T) {
	failed := errors.New("failed")
	w := &worker{log: slog.New(slog.DiscardHandler), dispatch: func(context.Context, []byte) error { return river.JobCancel(failed) }}
	err := w.Work(t.Context(), &river.Job[event]{JobRow: &rivertype.JobRow{Attempt: 1, MaxAttempts: 3}})
	var cancel *river.JobCancelError
	require.ErrorAs(t, err, &cancel)
	require.ErrorIs(t, err, failed)
}

// The test checks that an event is logged whose process died in the last attempt. River
// asks for the next retry before it notices that there won't be one.
func TestWorkerLogsADeathInTheLastAttempt(t *testing.T) {
	for attempt, givenUp := range map[int]bool{2: false, 3: true} {
		var log bytes.Buffer
		w := &worker{log: slog.New(slog.NewTextHandler(&log, nil))}
		next := w.NextRetry(&river.Job[event]{JobRow: &rivertype.JobRow{Attempt: attempt, MaxAttempts: 3}, Args: event{ID: "evt_1", Type: "a.b"}})
		require.Zero(t, next, "by River's schedule")
		require.Equal(t, givenUp, strings.Contains(log.String(), `event=evt_1 type=a.b attempts=3 error="the last attempt didn't end"`))
	}
}

// The test checks that events stored before an upgrade can be read after it.
func TestStoredFormat(t *testing.T) {
	text, err := json.Marshal(event{"evt_1", "a.b", []byte("body")})
	require.NoError(t, err)
	require.Equal(t, `{"id":"evt_1","type":"a.b","body":"Ym9keQ=="}`, string(text))
	require.Equal(t, "grantex_event", event{}.Kind())
	require.Equal(t, "grantexhook", event{}.InsertOpts().Queue)
}

// The test checks that the response comes while Grantex waits, which is ten seconds.
func TestStoreTimeout(t *testing.T) {
	require.Equal(t, 9*time.Second, storeTimeout)
}
