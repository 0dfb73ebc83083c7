package grants_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// suspended is how far the wall clock has gone on while the monotonic one stood still.
var suspended atomic.Int64

func init() {
	grants.SetClock(func() time.Time {
		if d := suspended.Load(); d != 0 {
			return resumed(time.Now(), time.Duration(d))
		}
		return resumed(time.Now(), 0)
	})
}

// resumed returns what [time.Now] returns once a machine has been suspended for d: the
// wall clock has gone on, and the monotonic one has stood still. In a bubble, time.Now
// has no monotonic clock, and package time can't make one. So this writes a Time as
// [time.Time] describes it: a bit, 33 bits of seconds since 1885, 30 of nanoseconds, and
// the monotonic nanoseconds.
func resumed(t time.Time, d time.Duration) time.Time {
	type layout struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}
	wall := t.Add(d).Round(0)
	seconds := uint64(wall.Unix() - year1885)
	both := layout{1<<63 | seconds<<30 | uint64(wall.Nanosecond()), int64(t.Sub(bubble)), time.Local}
	return *(*time.Time)(unsafe.Pointer(&both))
}

var (
	year1885 = time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	bubble   = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when time begins in a bubble
)

func TestResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := resumed(time.Now(), 0)
		require.True(t, before.Equal(time.Now()))
		time.Sleep(1500 * time.Millisecond)
		after := resumed(time.Now(), time.Hour)
		require.Equal(t, 1500*time.Millisecond, after.Sub(before))
		require.Equal(t, time.Hour+1500*time.Millisecond, after.Round(0).Sub(before.Round(0)))
	})
}
