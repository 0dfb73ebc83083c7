package redisstore_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkClaimDone measures the calls for an event that is handled.
func BenchmarkClaimDone(b *testing.B) {
	s, _, _ := open(b)
	ctx := b.Context()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint("evt_", i)
		if token, _, err := s.Claim(ctx, id, 18*time.Second); err != nil || token == 0 {
			b.Fatal(token, err)
		}
		if err := s.Done(ctx, id, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
