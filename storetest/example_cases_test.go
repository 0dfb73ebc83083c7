package storetest_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"grantex.dev/grantexhook/storetest"
)

// In a bubble, a Store in memory doesn't wait for leases to expire.
func ExampleCase_Run() {
	var t *testing.T // of your func TestStore(t *testing.T)

	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.Run(t, newStore()) })
		})
	}
}

// These are the rules that are checked.
func ExampleCases() {
	for _, c := range storetest.Cases() {
		fmt.Printf("%s: %s\n", c.Name, c.Rule)
	}
	// Output:
	// claim-of-free: Claim of a free id returns a token other than 0.
	// claim-of-held: Claim of a claimed id returns token 0, done false and no error.
	// ids-are-independent: A call for one id doesn't affect another id.
	// ids-differ-by-bytes: Two ids are the same only if all their bytes are. Case, spaces, quotes and pattern characters count.
	// tokens-differ: Claim returns a token that no earlier claim of the id had.
	// claim-lasts: A claim is held until its lease expires.
	// lease-expires: An id is free again when the lease of its claim has expired.
	// cancelled-context: A Claim whose context has ended either claims a free id, or returns an error and claims nothing.
	// done: Done marks a claimed id as done.
	// done-without-claim: Done marks an id as done even if it isn't claimed.
	// done-while-another-holds: Done marks an id as done even if another claim holds it.
	// done-after-expiry: Done marks an id as done even if the lease of its claim has expired.
	// done-twice: A second Done succeeds and extends the time to keep.
	// done-lasts: An id stays done for the time to keep, even if the lease of its claim ends earlier.
	// keep-expires: An id is free again after the time to keep, even if the lease of its claim would end later.
	// release: Release frees the id at once.
	// release-with-another-token: Release with a token other than the claim's does nothing and returns nil.
	// release-with-token-0: Release with token 0 does nothing and returns nil.
	// release-too-late: Release after the lease has expired doesn't free a later claim.
	// release-of-done: Release doesn't free an id that is done.
	// release-of-unknown: Release of an unknown id does nothing and returns nil.
	// one-winner: If many callers claim a free id at once, exactly one gets it.
	// one-heir: If many callers claim an id when its lease has expired, exactly one gets it.
	// concurrency: Under concurrent calls, an id that is held or done can't be claimed, and a released id is free.
	// random-walk: After any sequence of calls, an id is in the state that the other rules define.
}
