package sqlstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The test checks that the limit is in whole milliseconds, rounded up, and within what
// PostgreSQL accepts.
func TestIdleLimit(t *testing.T) {
	tests := []struct {
		name string
		left time.Duration
		want string
	}{
		{"past", -time.Hour, "1000"},
		{"now", 0, "1000"},
		{"a nanosecond", 1, "1001"},
		{"a millisecond", time.Millisecond, "1001"},
		{"nine seconds", 9 * time.Second, "10000"},
		{"and a nanosecond", 9*time.Second + 1, "10001"},
		{"the longest", longestLimit - idleRoom, "2147483647"},
		{"longer", longestLimit, "2147483647"},
		{"the longest Duration", 1<<63 - 1, "2147483647"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(test.left))
				defer cancel()
				require.Equal(t, test.want, idleLimit(ctx))
			})
		})
	}
	require.Empty(t, idleLimit(t.Context()))
}
