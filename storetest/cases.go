package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Cases returns the rules that [Run] checks, in a sensible order.
func Cases() []Case {
	return slices.Clone(cases)
}

var cases = []Case{
	{"claim-of-free", "Claim of a free id returns a token that is not zero.", claimOfFree},
	{"claim-of-held", "Claim of an id that is claimed returns token 0 and not done.", claimOfHeld},
	{"ids-are-independent", "What happens to one id has no effect on another.", idsAreIndependent},
	{"ids-are-told-apart", "Ids are the same only if all their bytes are: case, spaces, quotes and pattern characters count.", idsAreToldApart},
	{"tokens-differ", "Claim returns a token that no other claim of the id has had.", tokensDiffer},
	{"claim-lasts", "A claim is held until its lease has expired, and no shorter.", claimLasts},
	{"lease-expires", "An id is free again once the lease of its claim has expired.", leaseExpires},
	{"cancelled-context", "A Claim that returns an error, as it may if its context has ended, claims nothing.", cancelledContext},

	{"done", "Done marks as done what is claimed.", doneAfterClaim},
	{"done-without-claim", "Done marks an id as done even if nobody holds it.", doneWithoutClaim},
	{"done-while-another-holds", "Done marks an id as done whoever holds it now: what was handled is handled.", doneWhileAnotherHolds},
	{"done-after-expiry", "Done marks an id as done even if the lease of the claim has expired.", doneAfterExpiry},
	{"done-twice", "Done may be called twice; the later time to keep counts.", doneTwice},
	{"done-lasts", "What is done stays done for the time to keep, even if the lease of the claim ends before.", doneLasts},
	{"keep-expires", "An id is free again once the time to keep it as done has passed, even if the lease of the claim ends later.", keepExpires},

	{"release", "Release frees the id at once.", releaseFrees},
	{"release-with-another-token", "Release with a token other than that of the claim does nothing.", releaseWithAnotherToken},
	{"release-with-token-0", "Release with token 0 does nothing.", releaseWithZero},
	{"release-too-late", "Release after the lease has expired does not harm the next claim.", releaseTooLate},
	{"release-of-done", "Release does not forget what is done.", releaseOfDone},
	{"release-of-unknown", "Release of an unknown id does nothing and is no error.", releaseOfUnknown},

	{"one-winner", "Of many that claim an id at once, exactly one gets it.", oneWinner},
	{"one-heir", "Of many that claim an id at once when its lease has expired, exactly one gets it.", oneHeir},
	{"concurrency", "Whatever many do at once, nobody else gets an id that is held or done, and what is released is free.", concurrency},
	{"random-walk", "Any sequence of calls leads where the rules say.", randomWalk},
}

func claimOfFree(c *checker) {
	c.want(freshID(), free)
}

func claimOfHeld(c *checker) {
	id := freshID()
	c.want(id, free)
	c.want(id, held)
	c.want(id, held)
}

func idsAreIndependent(c *checker) {
	a, b, d := freshID(), freshID(), freshID()
	token := c.want(a, free)
	c.want(b, free)
	c.done(d, long)
	c.want(a, held)
	c.release(a, token)
	c.want(b, held)
	c.want(d, done)
}

func idsAreToldApart(c *checker) {
	ids := lookAlikes(freshID())
	tokens := make([]int64, len(ids))
	for i, id := range ids {
		tokens[i] = c.want(id, free)
	}
	want := make([]state, len(ids))
	for i, id := range ids { // neighbours look most alike
		switch i % 3 {
		case 0:
			want[i] = held
		case 1:
			c.done(id, long)
			want[i] = done
		case 2:
			c.release(id, tokens[i])
			want[i] = free
		}
	}
	for i, id := range ids {
		c.want(id, want[i])
	}
}

// lookAlikes returns ids that a Store might confuse with one another.
func lookAlikes(id string) []string {
	number := fmt.Sprint(1e9 + rand.Int64N(1e9))
	padding := strings.Repeat("x", 220-len(id))
	ids := []string{
		id, strings.ToLower(id), " " + id, id[:len(id)-1],
		number, "0" + number, number + ".0", "+" + number,
		id + padding, id + padding + "1", id + padding + "2",
	}
	for _, end := range []string{
		"a", "A", "%", "_", "*", "?", "[a]", "{a}", "^", "$", ".", ".*",
		" ", "  ", "\t", "\n", "\r\n", "'", "''", `"`, `""`, "`", `\`, `\\`, "\\'", "/", "//", "..", ":", "::", ";", "--", "#", "&", "|", "$1", "{}", "%s", "%25",
		"\u00e9", "e\u0301", "e", "\u00df", "ss", "SS", "\u0131", "i", "I", "\u0130", "\uff11", "1",
		"\U0001f511", "\u4e2d", "\u00a0", "\u200b", "\u2028", "\ufeff", "\ufffd", "\x01", "\x7f",
	} {
		ids = append(ids, id+end)
	}
	return ids
}

func tokensDiffer(c *checker) {
	id := freshID()
	seen := make(map[int64]bool)
	note := func(token int64) {
		if seen[token] {
			c.fatalf("Claim returned the token %d again", token)
		}
		seen[token] = true
	}
	for range 10 {
		token := c.want(id, free)
		note(token)
		c.release(id, token)
	}
	note(c.claimShortly(id))
	note(c.wantExpiry(id, held))
	c.done(id, short)
	note(c.wantExpiry(id, done))
}

func claimLasts(c *checker) {
	id := freshID()
	c.want(id, free)
	outlast()
	c.want(id, held)
}

func leaseExpires(c *checker) {
	id := freshID()
	c.claimShortly(id)
	c.wantExpiry(id, held)
	c.want(id, held)
}

// cancelledContext leaves it to the Store whether it looks at the context: one
// that never waits need not.
func cancelledContext(c *checker) {
	id := freshID()
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	token, isDone, err := c.store.Claim(ctx, id, long)
	switch {
	case err != nil:
		c.want(id, free)
	case token == 0:
		c.failf("Claim of a free id returned 0, %t and no error", isDone)
	default:
		c.want(id, held)
	}
}

func doneAfterClaim(c *checker) {
	id := freshID()
	c.want(id, free)
	c.done(id, long)
	c.want(id, done)
	c.want(id, done)
}

func doneWithoutClaim(c *checker) {
	id := freshID()
	c.done(id, long)
	c.want(id, done)
}

func doneWhileAnotherHolds(c *checker) {
	id := freshID()
	c.claimShortly(id)
	other := c.wantExpiry(id, held)
	c.done(id, long)
	c.want(id, done)
	c.release(id, other)
	c.want(id, done)
}

func doneAfterExpiry(c *checker) {
	id := freshID()
	c.claimShortly(id)
	outlast()
	c.done(id, long)
	c.want(id, done)
}

func doneTwice(c *checker) {
	id := freshID()
	c.done(id, short)
	c.done(id, long)
	outlast()
	c.want(id, done)
	c.done(id, long)
	c.want(id, done)
}

func doneLasts(c *checker) {
	id := freshID()
	c.claimShortly(id)
	c.done(id, long)
	outlast()
	c.want(id, done)
}

func keepExpires(c *checker) {
	id := freshID()
	c.want(id, free)
	c.done(id, short)
	c.wantExpiry(id, done)
	c.want(id, held)
}

func releaseFrees(c *checker) {
	id := freshID()
	c.release(id, c.want(id, free))
	c.want(id, free)
	c.want(id, held)
}

func releaseWithAnotherToken(c *checker) {
	id := freshID()
	first := c.want(id, free)
	c.release(id, first)
	token := c.want(id, free)
	for _, other := range []int64{first, token + 1, token - 1, -token} {
		c.release(id, other)
		c.want(id, held)
	}
}

func releaseWithZero(c *checker) {
	id := freshID()
	c.want(id, free)
	c.release(id, 0)
	c.want(id, held)
	c.done(id, long)
	c.release(id, 0)
	c.want(id, done)
}

func releaseTooLate(c *checker) {
	id := freshID()
	first := c.claimShortly(id)
	second := c.wantExpiry(id, held)
	c.release(id, first)
	c.want(id, held)
	c.release(id, second)
	c.want(id, free)
}

func releaseOfDone(c *checker) {
	id := freshID()
	token := c.want(id, free)
	c.done(id, long)
	c.release(id, token)
	c.want(id, done)
}

func releaseOfUnknown(c *checker) {
	id := freshID()
	c.release(id, 1)
	c.want(id, free)
}
