package riverinbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// maxPause is longer than an insert takes, so transactions that conflicted don't
// keep colliding.
const maxPause = 20 * time.Millisecond

// retry calls f until it succeeds, fails for a reason other than a conflict, or ctx
// ends.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !conflicts(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(maxPause)):
		}
	}
}

// conflicts reports whether a transaction failed because of a concurrent one. The
// PostgreSQL drivers don't share an error type, but the errors of pgx and pq both have
// a method that returns the code.
func conflicts(err error) bool {
	const serializationFailure, deadlockDetected = "40001", "40P01"
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return false
	}
	return coded.SQLState() == serializationFailure || coded.SQLState() == deadlockDetected
}
