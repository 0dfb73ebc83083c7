package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

type coded string

func (c coded) Error() string    { return "failed with " + string(c) }
func (c coded) SQLState() string { return string(c) }

func TestRetry(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		err   error
		times int // how often f fails
		tries int
		fails bool
	}{
		{"no error", t.Context(), nil, 0, 1, false},
		{"a serialization failure", t.Context(), coded("40001"), 1, 2, false},
		{"several, wrapped", t.Context(), fmt.Errorf("insert: %w", coded("40001")), 50, 51, false},
		{"a deadlock", t.Context(), coded("40P01"), 1, 2, false},
		{"too often", t.Context(), coded("40001"), 1000, 100, true},
		{"when the context has ended", ended, coded("40001"), 1, 1, true},
		{"another state", t.Context(), coded("23505"), 1, 1, true},
		{"no state", t.Context(), errors.New("connection lost"), 1, 1, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tries := 0
			err := retry(test.ctx, func() error {
				if tries++; tries <= test.times {
					return test.err
				}
				return nil
			})
			require.Equal(t, test.tries, tries)
			require.Equal(t, test.fails, err != nil)
		})
	}
}
