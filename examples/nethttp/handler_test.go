package main

import (
	"testing"
	"testing/synctest"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a bubble, where retries take no time
		const secret = "local_test_secret"
		h, err := handler(secret)
		if err != nil {
			t.Fatal(err)
		}
		s := hooktest.Sender{Secret: secret, Handler: h, Path: "/webhooks/grantex"}
		report := s.Deliver(t, grantexhook.GrantRevoked{GrantID: "grnt_1"})
		if !report.Delivered() || len(report) != 1 {
			t.Errorf("want one attempt with status 200; got\n%v", report)
		}
	})
}
