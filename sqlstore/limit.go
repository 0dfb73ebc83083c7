package sqlstore

import (
	"context"
	"math"
	"strconv"
	"time"
)

const (
	// idleRoom keeps a live handler from being cut off, since its clock and the
	// server's don't start at the same moment.
	idleRoom = time.Second

	// longestLimit is the most that PostgreSQL's setting allows, about 24 days.
	longestLimit = math.MaxInt32 * time.Millisecond
)

// limited appends the [idleLimit] of ctx to args if the database supports it.
func (s *Store) limited(ctx context.Context, args ...any) []any {
	if !s.sql.limited {
		return args
	}
	return append(args, idleLimit(ctx))
}

// idleLimit returns how many milliseconds the database should wait for the next
// statement of a transaction. By then, the deadline of ctx has certainly passed.
// Without the limit, a machine that vanished would hold its locks for hours. If ctx
// has no deadline, idleLimit returns "".
func idleLimit(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	left := min(max(time.Until(deadline), 0), longestLimit-idleRoom) + idleRoom
	return strconv.FormatInt(int64((left+time.Millisecond-1)/time.Millisecond), 10)
}
