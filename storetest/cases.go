package storetest

import (
	"slices"
	"testing"

	"grantex.dev/grantexhook"
)

// A Case checks one rule of [grantexhook.Store]. [Cases] returns them all. Run of the
// zero value panics.
type Case struct {
	Name string // the name of its subtest, unique
	Rule string // what the Store must do; every failure begins with it

	fix string // how to do it; every failure ends with it
	run func(*checker)
}

// Run checks the rule on s and reports to t how s breaks it. It must run in the
// goroutine of t. Most tests should call the function [Run] instead. Use this method in
// a [testing/synctest] bubble, where a Store in memory doesn't have to wait for leases.
func (c Case) Run(t testing.TB, s grantexhook.Store) {
	t.Helper()
	c.run(&checker{t: t, rule: c.Rule, fix: c.fix, store: s, ctx: t.Context()})
}

// Cases returns the cases that [Run] runs, simple rules first. You may change the slice.
func Cases() []Case {
	return slices.Clone(cases)
}

var cases = []Case{
	{
		"claim-of-free", "Claim of a free id returns a token other than 0.",
		"Return a new token if the Store has no entry for the id, or only an expired one.", claimOfFree,
	},
	{
		"claim-of-held", "Claim of a claimed id returns token 0, done false and no error.",
		"Don't return an error if another claim holds the id. For example, turn a duplicate-key error into token 0.", claimOfHeld,
	},
	{
		"ids-are-independent", "A call for one id doesn't affect another id.",
		"Restrict every query and every change to the id.", idsAreIndependent,
	},
	{
		"ids-differ-by-bytes", "Two ids are the same only if all their bytes are. Case, spaces, quotes and pattern characters count.",
		"Store and compare ids byte for byte. Use a binary collation, pass ids as parameters, and don't trim, fold or truncate them.", idsDifferByBytes,
	},
	{
		"tokens-differ", "Claim returns a token that no earlier claim of the id had.",
		"Take tokens from a random source, or from a counter that isn't reset when an id is released or expires.", tokensDiffer,
	},
	{
		"claim-lasts", "A claim is held until its lease expires.",
		"Hold the claim for the whole lease. Check the unit of the duration and the time zone of the expiry.", claimLasts,
	},
	{
		"lease-expires", "An id is free again when the lease of its claim has expired.",
		"Let Claim replace a claim that has expired. Check the unit of the duration and the time zone of the expiry.", leaseExpires,
	},
	{
		"cancelled-context", "A Claim whose context has ended either claims a free id, or returns an error and claims nothing.",
		"Check the context before you claim. If it has ended, return its error and not just token 0.", cancelledContext,
	},

	{
		"done", "Done marks a claimed id as done.",
		"After Done, let Claim return token 0 and done true.", doneAfterClaim,
	},
	{
		"done-without-claim", "Done marks an id as done even if it isn't claimed.",
		"Add the mark if there's no entry, for example with an upsert.", doneWithoutClaim,
	},
	{
		"done-while-another-holds", "Done marks an id as done even if another claim holds it.",
		"Don't check in Done who holds the claim. The event was handled.", doneWhileAnotherHolds,
	},
	{
		"done-after-expiry", "Done marks an id as done even if the lease of its claim has expired.",
		"Don't check in Done whether the lease has expired. The event was handled.", doneAfterExpiry,
	},
	{
		"done-twice", "A second Done succeeds and extends the time to keep.",
		"Let Done overwrite an earlier mark and its expiry.", doneTwice,
	},
	{
		"done-lasts", "An id stays done for the time to keep, even if the lease of its claim ends earlier.",
		"Let Done overwrite the expiry of the claim. Check the unit of the duration.", doneLasts,
	},
	{
		"keep-expires", "An id is free again after the time to keep, even if the lease of its claim would end later.",
		"Let Done overwrite the expiry of the claim, and let Claim replace a mark that has expired.", keepExpires,
	},

	{
		"release", "Release frees the id at once.",
		"Remove the claim if its token matches.", releaseFrees,
	},
	{
		"release-with-another-token", "Release with a token other than the claim's does nothing and returns nil.",
		"Remove the claim only if both the id and the token match. Return nil if they don't.", releaseWithAnotherToken,
	},
	{
		"release-with-token-0", "Release with token 0 does nothing and returns nil.",
		"Return nil for token 0. Check that it matches no claim, and no entry of an id that is done.", releaseWithZero,
	},
	{
		"release-too-late", "Release after the lease has expired doesn't free a later claim.",
		"Remove the claim only if both the id and the token match.", releaseTooLate,
	},
	{
		"release-of-done", "Release doesn't free an id that is done.",
		"Let Done remove the token, or let Release skip ids that are done.", releaseOfDone,
	},
	{
		"release-of-unknown", "Release of an unknown id does nothing and returns nil.",
		"Don't return an error if there's no entry for the id.", releaseOfUnknown,
	},

	{
		"one-winner", "If many callers claim a free id at once, exactly one gets it.",
		"Check and claim in one atomic step, for example one SQL statement.", oneWinner,
	},
	{
		"one-heir", "If many callers claim an id when its lease has expired, exactly one gets it.",
		"Check the expiry and claim in one atomic step, for example one SQL statement.", oneHeir,
	},
	{
		"concurrency", "Under concurrent calls, an id that is held or done can't be claimed, and a released id is free.",
		"Fix the cases above first. If this one still fails, look for a check and a change that aren't one atomic step.", concurrency,
	},
	{
		"random-walk", "After any sequence of calls, an id is in the state that the other rules define.",
		"Fix the cases above first. If this one still fails, repeat the calls that it lists.", randomWalk,
	},
}
