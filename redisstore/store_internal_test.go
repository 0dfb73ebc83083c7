package redisstore

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWholeMillis(t *testing.T) {
	const longest = math.MaxInt64 / time.Millisecond * time.Millisecond
	tests := []struct {
		name     string
		in, want time.Duration
	}{
		{"the minimum", math.MinInt64, time.Millisecond},
		{"negative", -time.Hour, time.Millisecond},
		{"zero", 0, time.Millisecond},
		{"a nanosecond", 1, time.Millisecond},
		{"a millisecond", time.Millisecond, time.Millisecond},
		{"just over a millisecond", time.Millisecond + 1, 2 * time.Millisecond},
		{"just under two", 2*time.Millisecond - 1, 2 * time.Millisecond},
		{"just under a second", time.Second - 1, time.Second},
		{"a second", time.Second, time.Second},
		{"just over a second", time.Second + 1, time.Second + time.Millisecond},
		{"a day", 24 * time.Hour, 24 * time.Hour},
		{"the maximum", math.MaxInt64, longest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, wholeMillis(test.in))
		})
	}
}
