package main

import (
	"testing"
	"testing/synctest"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where waiting for retries takes no time
		h, err := handler("any text will do here")
		if err != nil {
			t.Fatal(err)
		}
		s := hooktest.Sender{Secret: "any text will do here", Handler: h, Path: "/webhooks/grantex"}
		report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
		if !report.Delivered() || len(report) != 1 {
			t.Errorf("want one attempt with status 200, got\n%v", report)
		}
	})
}
