package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
)

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
	c.want(d, free)
	c.done(d, long)
	c.want(a, held)
	c.release(a, token)
	c.want(b, held)
	c.want(d, done)
}

func idsDifferByBytes(c *checker) {
	ids := lookAlikes(freshID())
	tokens := make([]int64, len(ids))
	for i, id := range ids {
		tokens[i] = c.want(id, free)
	}
	want := make([]state, len(ids))
	for i, id := range ids { // neighbours look most alike, so they get different states
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
		" ", "  ", "\t", "\n", "\r\n", "'", "''", `"`, `""`, "`", `\`, `\\`, "\\'", "/", "//", "..",
		":", "::", ";", "--", "#", "&", "|", "$1", "{}", "%s", "%25",
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

// cancelledContext leaves it to the Store whether to check the context. A Store that
// never waits doesn't need to.
func cancelledContext(c *checker) {
	id := freshID()
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	token, isDone, err := c.store.Claim(ctx, id, long)
	switch {
	case err != nil:
		c.want(id, free)
	case token == 0:
		c.fatalf("Claim of a free id returned token 0, done %t and no error", isDone)
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
	c.want(id, free)
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
