package sqlstore

import (
	"context"
	"math"
	"strconv"
	"time"
)

const (
	// idleRoom keeps a handler that is alive from being cut off: its clock and the
	// server's don't start at the same moment.
	idleRoom = time.Second

	// longestLimit is what PostgreSQL's setting can hold, 24 days.
	longestLimit = math.MaxInt32 * time.Millisecond
)

// limited returns args with the [idleLimit] of ctx added, if the database has such
// a limit.
func (s *Store) limited(ctx context.Context, args ...any) []any {
	if !s.sql.limited {
		return args
	}
	return append(args, idleLimit(ctx))
}

// idleLimit is how many milliseconds the database should wait for the next
// statement of a transaction: until the deadline of ctx has passed for certain. A
// machine that vanished would otherwise hold its locks for hours. It is empty if
// ctx has no deadline.
func idleLimit(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	left := min(max(time.Until(deadline), 0), longestLimit-idleRoom) + idleRoom
	return strconv.FormatInt(int64((left+time.Millisecond-1)/time.Millisecond), 10)
}
