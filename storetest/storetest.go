// Package storetest checks that your [grantexhook.Store] follows the rules of the
// interface. Call [Run] in a test:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) grantexhook.Store {
//			return mystore.New(openDatabase(t))
//		})
//	}
//
// A failure names the rule, the call that broke it and what to do. Start with the first
// failure, since the later ones may follow from it.
package storetest

import (
	"testing"

	"grantex.dev/grantexhook"
)

// Run runs each of the [Cases] as a subtest of t, on the Store that newStore returns
// for it. newStore may return the same Store every time, with entries of earlier runs
// in it, because each case uses new ids. Apart from the time that the Store takes, Run
// waits about a second for leases to expire.
func Run(t *testing.T, newStore func(t *testing.T) grantexhook.Store) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, newStore(t)) })
	}
}
