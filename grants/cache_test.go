package grants_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
)

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		id := w.grant()
		require.NoError(t, w.cache.Check(t.Context(), id))
		require.NoError(t, w.cache.Check(t.Context(), id))
		require.Equal(t, []string{id}, w.requests())
		w.Revoke(id)
		require.NoError(t, w.cache.Check(t.Context(), id), "unknown here so far")
		time.Sleep(5 * time.Minute)
		require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
	})
}

func TestRunLearnsFromTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{})
		id := w.grant()
		w.run()
		require.NoError(t, w.cache.Sync(t.Context()))
		time.Sleep(40 * time.Second)
		require.True(t, w.cache.Status().Connected)
		ctx, cancel, err := w.cache.Context(t.Context(), id)
		require.NoError(t, err)
		defer cancel()
		w.Revoke(id)
		<-ctx.Done()
		require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
		synctest.Wait()
		require.Equal(t, [][]string{{id}}, w.told)
	})
}

func TestNew(t *testing.T) {
	usable := &grantexapi.Client{APIKey: "gx_test_1"}
	tests := []struct {
		name   string
		client *grantexapi.Client
		opts   *grants.Options
		err    string // "" if it's right
	}{
		{"no options", usable, nil, ""},
		{"zero options", usable, &grants.Options{}, ""},
		{"no client", nil, nil, "grants: the client is nil; pass a *grantexapi.Client with the API key of your account"},
		{"no key", &grantexapi.Client{}, nil, "grants: the client can't be used: grantexapi: Client.APIKey is empty; set it to the API key of your Grantex account"},
		{"key with a line break", &grantexapi.Client{APIKey: "gx_test_1\n"}, nil, "grants: the client can't be used: grantexapi: Client.APIKey has white space or another character that a key can't have; trim it"},
		{"base URL with a version", &grantexapi.Client{APIKey: "gx_test_1", BaseURL: "https://api.grantex.dev/v1"}, nil,
			`grants: the client can't be used: grantexapi: Client.BaseURL must not end in "/v1"; remove it, since the client adds it`},
		{"longest MaxAge", usable, &grants.Options{MaxAge: 5 * time.Minute}, ""},
		{"too long a MaxAge", usable, &grants.Options{MaxAge: 5*time.Minute + 1}, "grants: Options.MaxAge is 5m0.000000001s; it must be from one second to five minutes, the protocol's limit"},
		{"shortest MaxAge", usable, &grants.Options{MaxAge: time.Second}, ""},
		{"too short a MaxAge", usable, &grants.Options{MaxAge: time.Second - 1}, "grants: Options.MaxAge is 999.999999ms; it must be from one second to five minutes, the protocol's limit"},
		{"negative MaxAge", usable, &grants.Options{MaxAge: -time.Minute}, "grants: Options.MaxAge is -1m0s; it must be from one second to five minutes, the protocol's limit"},
		{"half of MaxAge", usable, &grants.Options{Every: 150 * time.Second}, ""},
		{"more than half of MaxAge", usable, &grants.Options{Every: 151 * time.Second}, "grants: Options.Every is 2m31s; it can't be longer than half of MaxAge (2m30s)"},
		{"more than half of a short MaxAge", usable, &grants.Options{MaxAge: 10 * time.Second, Every: 6 * time.Second}, "grants: Options.Every is 6s; it can't be longer than half of MaxAge (5s)"},
		{"no lists", usable, &grants.Options{Every: -1}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := grants.New(tt.client, tt.opts)
			if tt.err == "" {
				require.NoError(t, err)
				require.NotNil(t, c)
				return
			}
			require.EqualError(t, err, tt.err)
			require.Nil(t, c)
		})
	}
}

// TestStatus checks every field of a Status as things happen.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		failure := errors.New("the database is down")
		var down atomic.Bool
		down.Store(true)
		w := newWorld(t, grants.Options{Log: log.log(), Ended: func(context.Context, []string) error {
			if down.Load() {
				return failure
			}
			return nil
		}})
		a, b := w.grant(), w.grant()
		var want grants.Status
		requireStatus := func(after string) {
			t.Helper()
			got := w.cache.Status()
			got.Err = nil
			require.Equal(t, want, got, after)
		}
		time.Sleep(3 * time.Second)
		want.ListAge = 3 * time.Second // the Cache's
		requireStatus("New")

		require.NoError(t, w.cache.Sync(t.Context()))
		want.ListAge, want.Grants = 0, 2
		requireStatus("Sync")
		time.Sleep(4 * time.Second)
		want.ListAge = 4 * time.Second
		requireStatus("a while")

		require.NoError(t, w.cache.Check(t.Context(), a))
		want.Hits++
		requireStatus("a hit")
		require.ErrorIs(t, w.cache.Check(t.Context(), "grnt_unknown"), grants.ErrEnded)
		want.Misses, want.Ended, want.Questions = 1, 1, 1
		requireStatus("a miss")
		require.ErrorIs(t, w.cache.Check(t.Context(), ""), grants.ErrEnded)
		want.Hits, want.Ended = 2, 2
		requireStatus("an empty ID")
		_, cancel, err := w.cache.Context(t.Context(), b)
		require.NoError(t, err)
		defer cancel()
		want.Hits, want.Contexts = 3, 1
		requireStatus("a Context")
		w.serve(reply(503, ""), "grnt_unknown")
		require.ErrorIs(t, w.cache.Check(t.Context(), "grnt_unknown"), grants.ErrStale)
		want.Misses, want.Stale, want.Questions = 2, 1, 2
		requireStatus("a failure")
		require.ErrorIs(t, w.cache.Check(t.Context(), "grnt_other"), grants.ErrStale)
		want.Misses, want.Stale = 3, 2
		requireStatus("a check during back-off")
		synctest.Wait()
		require.ErrorContains(t, w.cache.Status().Err, "the API returned 503")

		w.Revoke(b)
		w.cache.MarkEnded(b, b)
		want.Grants, want.Untold, want.Contexts = 1, 1, 0
		requireStatus("an end")
		require.ErrorIs(t, w.cache.Check(t.Context(), b), grants.ErrEnded)
		want.Hits, want.Ended = 4, 3
		requireStatus("a check of what has ended")

		stop := w.run()
		time.Sleep(40 * time.Second)
		want.ListAge, want.Connected = 10*time.Second, true // the stream's first bytes came after 30 s
		requireStatus("Run")
		require.ErrorIs(t, w.cache.Status().Err, failure)
		down.Store(false)
		time.Sleep(time.Minute)
		require.Zero(t, w.cache.Status().Untold)
		w.Crash()
		synctest.Wait()
		require.False(t, w.cache.Status().Connected)
		require.ErrorContains(t, w.cache.Status().Err, "the stream")
		time.Sleep(10 * time.Minute)
		require.True(t, w.cache.Status().Connected)
		w.serve(nil, "grnt_unknown")
		require.ErrorIs(t, w.cache.Check(t.Context(), "grnt_unknown"), grants.ErrEnded)
		synctest.Wait()
		require.NoError(t, w.cache.Status().Err)
		stop()
		require.False(t, w.cache.Status().Connected)
	})
}
