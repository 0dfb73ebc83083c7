package riverinbox

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type coded string

func (c coded) Error() string    { return "failed with " + string(c) }
func (c coded) SQLState() string { return string(c) }

func TestRetry(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		times int // how often f fails
		tries int
	}{
		{"no error", nil, 0, 1},
		{"a serialization failure", coded("40001"), 1, 2},
		{"several, wrapped", fmt.Errorf("insert: %w", coded("40001")), 50, 51},
		{"a deadlock", coded("40P01"), 1, 2},
		{"another state", coded("23505"), 1, 1},
		{"no state", errors.New("connection lost"), 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := retry(t.Context(), func() error {
					if tries++; tries <= test.times {
						return test.err
					}
					return nil
				})
				require.Equal(t, test.tries, tries)
				require.Equal(t, tries <= test.times, err != nil)
			})
		})
	}
}

// The test checks that a conflict that doesn't end is retried until the deadline.
func TestRetryUntilTheContextEnds(t *testing.T) {
	for _, limit := range []time.Duration{0, storeTimeout} {
		t.Run(limit.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				begin, tries := time.Now(), 0
				err := retry(ctx, func() error { tries++; return coded("40001") })
				require.Equal(t, coded("40001"), err)
				require.Equal(t, limit, time.Since(begin))
				require.Equal(t, limit > 0, tries > 100, tries)
			})
		})
	}
}
