package grantexhook

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type valueKey struct{}

func TestDeadline(t *testing.T) {
	tests := []struct {
		name string
		wait time.Duration // before the context is asked
		stop bool
		want error
	}{
		{"before", time.Second - 1, false, nil},
		{"at", time.Second, false, context.DeadlineExceeded},
		{"after", time.Hour, false, context.DeadlineExceeded},
		{"stopped", 0, true, context.Canceled},
		{"stopped, then after", time.Hour, true, context.DeadlineExceeded},
	}
	for _, test := range tests {
		for _, asked := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, hangUp := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "value"))
					start := time.Now()
					ctx, stop := withDeadline(parent, time.Second)
					defer stop()
					hangUp()
					if asked {
						require.NoError(t, ctx.Err())
					}
					at, ok := ctx.Deadline()
					require.True(t, ok)
					require.Equal(t, start.Add(time.Second), at)
					require.Equal(t, "value", ctx.Value(valueKey{}))

					time.Sleep(test.wait)
					if test.stop {
						stop()
					}
					synctest.Wait()
					require.Equal(t, test.want, ctx.Err())
					select {
					case <-ctx.Done():
						require.Error(t, test.want)
					default:
						require.NoError(t, test.want)
					}
				})
			})
		}
	}
}

func TestDeadlineReachesDerivedContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := withDeadline(t.Context(), time.Second)
		defer stop()
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		<-derived.Done()
		require.Equal(t, context.DeadlineExceeded, derived.Err())
		require.Equal(t, context.DeadlineExceeded, context.Cause(derived))
	})
}

// TestDeadlineAfterFunc checks that a function is called once, when the context
// ends, unless it was stopped before.
func TestDeadlineAfterFunc(t *testing.T) {
	tests := []struct {
		name  string
		stop  bool // before the deadline
		calls int64
	}{
		{"not stopped", false, 1},
		{"stopped", true, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := withDeadline(t.Context(), time.Second)
				defer end()
				var calls atomic.Int64
				stop := ctx.(*deadline).AfterFunc(func() { calls.Add(1) })
				if test.stop {
					require.True(t, stop())
				}
				time.Sleep(time.Second - 1)
				synctest.Wait()
				require.Zero(t, calls.Load())
				time.Sleep(time.Hour)
				end()
				synctest.Wait()
				require.Equal(t, test.calls, calls.Load())
				require.False(t, stop(), "stop returned true after the end")
			})
		})
	}
}

// TestDeadlineHasOneTimer checks that using a deadline twice starts only one timer,
// and that without a use there's no timer.
func TestDeadlineHasOneTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := withDeadline(t.Context(), time.Second)
		c := ctx.(*deadline)
		ctx.Deadline()
		ctx.Value(valueKey{})
		require.Nil(t, c.timed)

		done := ctx.Done()
		timed := c.timed
		for range 3 {
			require.NoError(t, ctx.Err())
			require.Equal(t, done, ctx.Done())
			context.AfterFunc(ctx, func() {})()
			require.Same(t, timed, c.timed)
		}
		stop()
		<-done
		require.Same(t, timed, c.timed)

		unasked, stop := withDeadline(t.Context(), time.Second)
		stop()
		require.Nil(t, unasked.(*deadline).timed)
	})
}
