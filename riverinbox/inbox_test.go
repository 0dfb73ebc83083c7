package riverinbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/riverinbox"
)

func TestNewRejects(t *testing.T) {
	driver := riversqlite.New(open(t, filepath.Join(t.TempDir(), "inbox.db")))
	tests := []struct {
		name     string
		driver   riverdriver.Driver[*sql.Tx]
		dispatch func(context.Context, []byte) error
		opts     *riverinbox.Options
		want     string
	}{
		{"no driver", nil, ignore, nil, "needs a River driver"},
		{"no dispatch", driver, nil, nil, "needs a River driver and the Dispatch method"},
		{"a negative timeout", driver, ignore, &riverinbox.Options{Timeout: -1}, "Timeout is -1ns; it must be at least 1s"},
		{"a timeout in the wrong unit", driver, ignore, &riverinbox.Options{Timeout: 60}, "Timeout is 60ns; it must be at least 1s"},
		{"a negative number of workers", driver, ignore, &riverinbox.Options{Workers: -1}, "Workers is -1; it must be positive"},
		{"more workers than River allows", driver, ignore, &riverinbox.Options{Workers: 1e6}, "riverinbox: "},
		{"a schema in SQLite", driver, ignore, &riverinbox.Options{Schema: "inbox"}, "SQLite has no schemas"},
		{"a configuration without the queue", driver, ignore, &riverinbox.Options{Configure: func(c *river.Config) {
			c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}}
		}}, `removed the queue "grantexhook"`},
		{"a configuration without a timeout", driver, ignore, &riverinbox.Options{Configure: func(c *river.Config) { c.JobTimeout = -1 }}, "JobTimeout"},
		{"a configuration that River rejects", driver, ignore, &riverinbox.Options{Configure: func(c *river.Config) {
			c.RescueStuckJobsAfter = time.Second
		}}, "RescueStuckJobsAfter"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := riverinbox.New(test.driver, test.dispatch, test.opts)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestConfiguration(t *testing.T) {
	tests := []struct {
		name            string
		opts            riverinbox.Options
		timeout, rescue time.Duration
		workers         int
	}{
		{"zero", riverinbox.Options{}, time.Minute, 65 * time.Second, 10},
		{"the shortest", riverinbox.Options{Timeout: time.Second}, time.Second, 6 * time.Second, 10},
		{"given", riverinbox.Options{Timeout: 9 * time.Second, Workers: 3}, 9 * time.Second, 14 * time.Second, 3},
		{"longer than River's own limit", riverinbox.Options{Timeout: 3 * time.Hour}, 3 * time.Hour, 3*time.Hour + 5*time.Second, 10},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got *river.Config
			test.opts.Configure = func(c *river.Config) {
				require.Nil(t, got, "called twice")
				got = c
			}
			newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), ignore, &test.opts)
			require.Equal(t, test.timeout, got.JobTimeout)
			require.Equal(t, test.rescue, got.RescueStuckJobsAfter)
			require.Equal(t, map[string]river.QueueConfig{"grantexhook": {MaxWorkers: test.workers}}, got.Queues)
		})
	}
}

func TestMigrateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	var wg sync.WaitGroup
	for range 4 {
		in, err := riverinbox.New(riversqlite.New(open(t, path)), ignore, &riverinbox.Options{Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		wg.Go(func() {
			if err := in.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestDatabaseIsGone(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	in := newInbox(t, db, ignore, nil)
	require.NoError(t, db.Close())
	tests := []struct {
		name string
		call func(context.Context) error
	}{
		{"Migrate", in.Migrate},
		{"Start", in.Start},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.ErrorContains(t, test.call(t.Context()), "database is closed")
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			begin := time.Now()
			require.Error(t, test.call(ctx))
			require.Less(t, time.Since(begin), time.Second, "its context ended")
		})
	}
}

// The test checks that Start doesn't wait for the database longer than its context
// lasts, and that Start can be called again.
func TestStartGivesUp(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	handled := make(chan bool, 1)
	in := newInbox(t, db, func(context.Context, []byte) error { handled <- true; return nil }, nil)
	only, err := db.Conn(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, in.Start(ctx), context.DeadlineExceeded)
	require.NoError(t, only.Close())
	start(t, in)
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
	receive(t, handled)
}

// The test checks the same for contexts that end at other moments of a Start.
func TestStartAgain(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			handled := make(chan bool, 1)
			in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(context.Context, []byte) error { handled <- true; return nil }, nil)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			if err := in.Start(ctx); err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			start(t, in)
			post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
			receive(t, handled)
		})
	}
}

// If the context ends late in Start, River has already begun to work and doesn't
// return an error. The test checks that River has stopped again when Start returns.
func TestStartCancelledWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handled := make(chan bool, 1)
	driver := startingDriver{riversqlite.New(open(t, filepath.Join(t.TempDir(), "inbox.db"))), cancel}
	in, err := riverinbox.New(driver, func(context.Context, []byte) error { handled <- true; return nil }, &riverinbox.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, in.Migrate(t.Context()))
	require.ErrorIs(t, in.Start(ctx), context.Canceled)
	select {
	case <-in.Client().Stopped():
	default:
		require.Fail(t, "River still runs")
	}
	start(t, in)
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
	receive(t, handled)
}

// A startingDriver calls a function when River looks up its queue, which is the last
// step that Start waits for.
type startingDriver struct {
	riverdriver.Driver[*sql.Tx]
	call func()
}

func (d startingDriver) GetExecutor() riverdriver.Executor {
	return startingExecutor{d.Driver.GetExecutor(), d.call}
}

type startingExecutor struct {
	riverdriver.Executor
	call func()
}

func (e startingExecutor) QueueCreateOrSetUpdatedAt(ctx context.Context, params *riverdriver.QueueCreateOrSetUpdatedAtParams) (*rivertype.Queue, error) {
	defer e.call()
	return e.Executor.QueueCreateOrSetUpdatedAt(ctx, params)
}

// The test checks that an event is handled with the bytes that were delivered and
// with the time that the option allows, whether it was stored before Start or after.
func TestWork(t *testing.T) {
	type call struct {
		body []byte
		left time.Duration
	}
	calls := make(chan call, 2)
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(ctx context.Context, body []byte) error {
		deadline, _ := ctx.Deadline()
		calls <- call{body, time.Until(deadline)}
		return nil
	}, &riverinbox.Options{Timeout: time.Hour})
	h := in.Handler(trusted)
	early, late := `{"type":"a.b", "id":"evt_1", "data":{"nul":"\u0000","nul":1e999, "é":"\ud800"}}  `, `{"id":"evt_2","type":"a.b","data":"`+string(bytes.Repeat([]byte("x"), 154241))+`"}`

	status, answer := post(h, early)
	require.Equal(t, 200, status)
	require.Equal(t, "stored", answer)
	start(t, in)
	for i, want := range []string{early, late} {
		if i == 1 {
			status, _ := post(h, late)
			require.Equal(t, 200, status)
		}
		got := receive(t, calls)
		require.True(t, string(got.body) == want, "the bytes differ from what was sent")
		require.InDelta(t, time.Hour, got.left, float64(time.Minute))
	}
}

func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		require.Fail(t, "nothing happened for 20 seconds")
	}
	return v
}

func TestWorkIsRetried(t *testing.T) {
	attempts := make(chan int, 3)
	var n atomic.Int32
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(context.Context, []byte) error {
		i := int(n.Add(1))
		attempts <- i
		if i == 1 {
			return errors.New("not yet")
		}
		return nil
	}, nil)
	start(t, in)
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
	require.Equal(t, 1, receive(t, attempts))
	require.Equal(t, 2, receive(t, attempts))
	require.Equal(t, rivertype.JobStateCompleted, waitForState(t, in, rivertype.JobStateCompleted).State)
	require.Empty(t, attempts)
}

// waitForState waits until the only job has this state.
func waitForState(t testing.TB, in *inbox, want rivertype.JobState) *rivertype.JobRow {
	t.Helper()
	var job *rivertype.JobRow
	require.Eventually(t, func() bool {
		list, err := in.Client().JobList(t.Context(), river.NewJobListParams())
		if err != nil || len(list.Jobs) != 1 {
			return false
		}
		job = list.Jobs[0]
		return job.State == want
	}, 20*time.Second, 20*time.Millisecond)
	return job
}

// The test checks that an event that is given up is kept and logged without its data.
func TestWorkIsGivenUp(t *testing.T) {
	var log syncBuffer
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")),
		func(context.Context, []byte) error { return errors.New("broken for good") },
		&riverinbox.Options{
			Log:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Configure: func(c *river.Config) { c.MaxAttempts = 2 },
		})
	start(t, in)
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b","data":{"principalId":"user_of_mine"}}`)
	job := waitForState(t, in, rivertype.JobStateDiscarded)
	require.Len(t, job.Errors, 2)
	require.Contains(t, string(job.EncodedArgs), `"body":"eyJp`, "kept for inspection")

	require.Contains(t, log.String(), `level=ERROR msg="riverinbox: event given up" event=evt_1 type=a.b attempts=2 error="broken for good"`)
	require.Equal(t, 1, strings.Count(log.String(), "event given up"))
	require.NotContains(t, log.String(), "user_of_mine")
	require.NotContains(t, log.String(), "eyJp", "the body in base64")
}

// misfit is the error of a Dispatcher that can't decode an event.
type misfit struct{}

func (misfit) Error() string   { return "data.grantId: number, string wanted" }
func (misfit) Malformed() bool { return true }

// The test checks that the first malformed attempt is logged at Error, even after
// other failures, and that later ones are logged like any failure.
func TestWorkOnAMalformedEvent(t *testing.T) {
	var log syncBuffer
	var n atomic.Int32
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")),
		func(context.Context, []byte) error {
			switch n.Add(1) {
			case 1:
				return errors.New("database gone")
			case 2, 3, 4:
				return fmt.Errorf("dispatch: %w", misfit{})
			}
			return nil // with a type that was fixed
		},
		&riverinbox.Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			Configure: func(c *river.Config) {
				c.MaxAttempts = 4
				c.RetryPolicy = atOnce{}
			},
		})
	start(t, in)
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b","data":{"principalId":"user_of_mine"}}`)
	job := waitForState(t, in, rivertype.JobStateDiscarded)
	require.Len(t, job.Errors, 4)
	require.Equal(t, 1, strings.Count(log.String(), `level=ERROR msg="riverinbox: event malformed`))
	require.Contains(t, log.String(), fmt.Sprintf(`event=evt_1 type=a.b job=%d error="dispatch: data.grantId: number, string wanted"`, job.ID))
	require.Equal(t, 2, strings.Count(log.String(), "level=ERROR"), "the other line is about giving up")
	require.NotContains(t, log.String(), "user_of_mine")

	_, err := in.Client().JobRetry(t.Context(), job.ID)
	require.NoError(t, err)
	waitForState(t, in, rivertype.JobStateCompleted)
}

// atOnce is River's schedule without the waits.
type atOnce struct{}

func (atOnce) NextRetry(*rivertype.JobRow) time.Time { return time.Now() }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestWorkersBoundWhatRunsAtOnce(t *testing.T) {
	const workers, events = 2, 6
	var running atomic.Int32
	var done sync.WaitGroup
	done.Add(events)
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(context.Context, []byte) error {
		defer done.Done()
		if running.Add(1) > workers {
			t.Error("too many at once")
		}
		time.Sleep(10 * time.Millisecond)
		running.Add(-1)
		return nil
	}, &riverinbox.Options{Workers: workers})
	h := in.Handler(trusted)
	for i := range events {
		post(h, fmt.Sprintf(`{"id":"evt_%d","type":"a.b"}`, i))
	}
	start(t, in)
	done.Wait()
}

// The test checks that neither the end of Start's context nor Stop cancels a handler.
func TestStopIsGraceful(t *testing.T) {
	begun, end := make(chan bool, 1), make(chan bool)
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(ctx context.Context, _ []byte) error {
		begun <- true
		select {
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, in.Start(ctx))
	h := in.Handler(trusted)
	post(h, `{"id":"evt_1","type":"a.b"}`)
	receive(t, begun)
	cancel()

	stopped := make(chan error, 1)
	go func() { stopped <- in.Stop(context.Background()) }()
	select {
	case err := <-stopped:
		require.Fail(t, "Stop did not wait", "%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(end)
	require.NoError(t, receive(t, stopped))
	require.Equal(t, rivertype.JobStateCompleted, waitForState(t, in, rivertype.JobStateCompleted).State)

	status, _ := post(h, `{"id":"evt_2","type":"a.b"}`)
	require.Equal(t, 200, status, "a stopped inbox still stores deliveries")
}

// The test checks that an attempt that Stop cancels doesn't count, and that the next
// Start retries it at once.
func TestStopHasAnEnd(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	begun := make(chan bool, 1)
	in := newInbox(t, db, func(ctx context.Context, _ []byte) error {
		begun <- true
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond) // tidying up
		return ctx.Err()
	}, nil)
	require.NoError(t, in.Start(t.Context()))
	post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
	receive(t, begun)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, in.Stop(ctx), context.DeadlineExceeded)
	job := jobs(t, in)[0]
	require.Equal(t, rivertype.JobStateAvailable, job.State)
	require.Zero(t, job.Attempt)

	again := make(chan bool, 1)
	next := newInbox(t, db, func(context.Context, []byte) error { again <- true; return nil }, nil)
	start(t, next)
	receive(t, again)
}

// The test checks that neither other events nor Stop wait for a handler that never
// returns.
func TestHandlerThatNeverReturns(t *testing.T) {
	handled := make(chan bool, 1)
	in := newInbox(t, open(t, filepath.Join(t.TempDir(), "inbox.db")), func(_ context.Context, body []byte) error {
		if bytes.Contains(body, []byte("evt_stuck")) {
			select {}
		}
		handled <- true
		return nil
	}, &riverinbox.Options{Timeout: time.Second, Workers: 1})
	require.NoError(t, in.Start(t.Context()))
	h := in.Handler(trusted)
	post(h, `{"id":"evt_stuck","type":"a.b"}`)
	post(h, `{"id":"evt_1","type":"a.b"}`)
	receive(t, handled)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, in.Stop(ctx), context.DeadlineExceeded)
}

// The test checks that without a Log, the default logger is used.
func TestDefaultLog(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	for name, configure := range map[string]func(*river.Config){
		"zero":      func(*river.Config) {},
		"Configure": func(c *river.Config) { c.Logger = nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log syncBuffer
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			in, err := riverinbox.New(riversqlite.New(open(t, filepath.Join(t.TempDir(), "inbox.db"))),
				func(context.Context, []byte) error { return errors.New("broken") },
				&riverinbox.Options{Configure: func(c *river.Config) { c.MaxAttempts = 1; configure(c) }})
			require.NoError(t, err)
			require.NoError(t, in.Migrate(t.Context()))
			start(t, in)
			status, _ := post(in.Handler(trusted), "x")
			require.Equal(t, 422, status)
			post(in.Handler(trusted), `{"id":"evt_1","type":"a.b"}`)
			waitForState(t, in, rivertype.JobStateDiscarded)
			require.Contains(t, log.String(), "riverinbox: delivery rejected")
			require.Contains(t, log.String(), "riverinbox: event given up")
			require.Equal(t, name == "zero", strings.Contains(log.String(), "Applied migration"))
		})
	}
}
