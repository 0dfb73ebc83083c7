package hooktest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/hooktest"
)

func TestReportString(t *testing.T) {
	begun := time.Now()
	report := hooktest.Report{
		{At: begun, Err: errors.New("hung up"), Took: 1499 * time.Microsecond},
		{At: begun.Add(time.Minute + 1500*time.Microsecond), Status: 200, Took: 400 * time.Microsecond},
	}
	require.Equal(t, "+0s hung up (took 1ms)\n+1m0.002s 200 (took 0s)", report.String())
	require.Empty(t, hooktest.Report(nil).String())
	require.False(t, hooktest.Report(nil).Delivered())
}
