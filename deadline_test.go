package grantexhook

import (
	"context"
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
