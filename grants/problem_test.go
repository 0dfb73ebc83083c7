package grants_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// TestStatusNamesWhatFails checks that an error in Status says what it's about.
func TestStatusNamesWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, grants.Options{Ended: func(context.Context, []string) error { return errors.New("no database") }})
		refuse := func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnauthorized) }
		w.on["stream"], w.on["list"] = refuse, refuse
		w.run()
		w.cache.MarkEnded("grnt_1")
		time.Sleep(time.Second)
		err := w.cache.Status().Err
		require.ErrorContains(t, err, "grants: the live stream: grantexapi: the API returned 401")
		require.ErrorContains(t, err, "grants: listing the active grants: grantexapi: the API returned 401")
		require.ErrorContains(t, err, "grants: Options.Ended: no database")
		require.ErrorContains(t, w.cache.Sync(t.Context()), "grants: listing the active grants: grantexapi: the API returned 401")
	})
}
