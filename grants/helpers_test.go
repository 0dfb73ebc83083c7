package grants_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
	"grantex.dev/grantexhook/hooktest"
)

// A world is an account of Grantex and a Cache of its grants.
type world struct {
	*testing.T
	*hooktest.API
	cache *grants.Cache

	mu    sync.Mutex
	asked []string // "list", "stream", or the ID of a grant
	on    map[string]http.HandlerFunc
	told  [][]string
}

// newWorld returns a world in the bubble of the test. Its Ended succeeds, unless opts has
// another.
func newWorld(t *testing.T, opts grants.Options) *world {
	t.Helper()
	w := &world{T: t, API: hooktest.NewAPI(), on: map[string]http.HandlerFunc{}}
	t.Cleanup(w.Close)
	w.Intercept(w.handle)
	if opts.Ended == nil {
		opts.Ended = w.ended
	}
	c, err := grants.New(&grantexapi.Client{APIKey: "gx_test_1", HTTPClient: w.Client()}, &opts)
	require.NoError(t, err)
	w.cache = c
	return w
}

func (w *world) ended(_ context.Context, ids []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, ids)
	return nil
}

// run calls Run until stop is called, or until the test ends.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error)
	go func() { done <- w.cache.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w, <-done)
	})
	w.Cleanup(stop)
	return stop
}

// grant creates a grant and returns its ID.
func (w *world) grant() string { return w.Create(grantexhook.GrantCreated{}).GrantID }

func (w *world) handle(rw http.ResponseWriter, r *http.Request, next http.Handler) {
	what := strings.TrimPrefix(r.URL.Path, "/v1/grants/")
	switch r.URL.Path {
	case "/v1/grants":
		what = "list"
	case "/v1/events/stream":
		what = "stream"
	}
	w.mu.Lock()
	w.asked = append(w.asked, what)
	h := w.on[what]
	w.mu.Unlock()
	if h != nil {
		h(rw, r)
		return
	}
	next.ServeHTTP(rw, r)
}

// requests returns what was asked for since the last call.
func (w *world) requests() (asked []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, w.asked = w.asked, nil
	return asked
}
