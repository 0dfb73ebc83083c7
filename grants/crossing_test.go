package grants_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// late answers the next question about a grant as of now, after d.
func (w *world) late(id string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on[id] = func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		delete(w.on, id)
		w.mu.Unlock()
		time.Sleep(d)
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"grantId":%q,"agentId":"ag_1","principalId":"p","developerId":"dev_1","scopes":[],"status":"active",`+
			`"issuedAt":"2000-01-01T00:00:00.000Z","expiresAt":"2001-01-01T00:00:00.000Z"}`, id)
	}
}

// TestAnswerOlderThanAList checks that an answer that was on its way during a whole Sync
// doesn't undo what that Sync found out.
func TestAnswerOlderThanAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		id := w.grant()
		w.late(id, 5*time.Second)
		first := make(chan error)
		go func() { first <- w.cache.Check(t.Context(), id) }()
		time.Sleep(time.Second)
		w.Revoke(id)
		require.NoError(t, w.cache.Sync(t.Context()))
		require.ErrorIs(t, <-first, grants.ErrEnded, "asked again")
		require.Equal(t, []string{id, "list", id}, w.requests())
		require.ErrorIs(t, w.cache.Check(t.Context(), id), grants.ErrEnded)
	})
}

// TestContextOfANewerGrant checks that a grant that a list doesn't have yet stays
// active if its question crossed that list.
func TestContextOfANewerGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{NoStream: true})
		w.grant()
		w.late("grnt_new", 5*time.Second)
		w.on["list"] = func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"grants":[]}`) }
		done := make(chan error)
		go func() {
			_, cancel, err := w.cache.Context(t.Context(), "grnt_new")
			defer cancel()
			done <- err
		}()
		time.Sleep(time.Second)
		require.NoError(t, w.cache.Sync(t.Context()))
		time.Sleep(3 * time.Second)
		w.late("grnt_new", 0)
		require.Equal(t, []string{"grnt_new", "list"}, w.requests())
		require.NoError(t, <-done)
		require.Equal(t, []string{"grnt_new"}, w.requests())
	})
}

// TestUnknownGrantInAnOlderList checks that a list doesn't revive a grant that Grantex
// didn't find while that list was in flight.
func TestUnknownGrantInAnOlderList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		require.NoError(t, cache.Sync(t.Context()), "checks wait for the first")
		d.turn(says(2*time.Second, http.StatusOK, listOf([]string{"grnt_deleted"})), says(0, http.StatusNotFound, `{"code":"NOT_FOUND"}`))
		synced := make(chan error)
		go func() { synced <- cache.Sync(t.Context()) }()
		time.Sleep(time.Second)
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_deleted"), grants.ErrEnded)
		require.NoError(t, <-synced)
		require.ErrorIs(t, cache.Check(t.Context(), "grnt_deleted"), grants.ErrEnded)
	})
}
