package grants

import "time"

// SetClock replaces time.Now.
func SetClock(f func() time.Time) { clock = f }
