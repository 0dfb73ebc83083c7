package grants_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grants"
)

// withID returns a function for Middleware that returns the same for each request.
func withID(id string, err error) func(*http.Request) (string, error) {
	return func(*http.Request) (string, error) { return id, err }
}

func TestMiddleware(t *testing.T) {
	const id = "grnt_1"
	gone, leave := context.WithCancel(t.Context())
	leave()
	noToken := errors.New("no token")
	unavailable := map[string][]string{"Retry-After": {"5"}}
	bearer := map[string][]string{"Www-Authenticate": {"Bearer"}}
	invalidToken := map[string][]string{"Www-Authenticate": {`Bearer error="invalid_token", error_description="the grant has ended"`}}
	tests := []struct {
		name     string
		grantID  func(*http.Request) (string, error)
		question http.HandlerFunc
		ctx      context.Context
		status   int
		header   map[string][]string
		after    time.Duration
		asked    []string
	}{
		{"active", withID(id, nil), reply(200, activeGrant(id)), nil, 200, nil, 0, []string{id}},
		{"no token", withID("", noToken), nil, nil, 401, bearer, 0, nil},
		{"an error with an ID", withID(id, noToken), nil, nil, 401, bearer, 0, nil},
		{"empty ID", withID("", nil), nil, nil, 401, bearer, 0, nil},
		{"revoked", withID(id, nil), reply(200, strings.ReplaceAll(activeGrant(id), `"active"`, `"revoked"`)), nil, 401, invalidToken, 0, []string{id}},
		{"unknown", withID(id, nil), nil, nil, 401, invalidToken, 0, []string{id}},
		{"too long an ID", withID(strings.Repeat("x", 129), nil), nil, nil, 401, invalidToken, 0, nil},
		{"as long as an ID may be", withID(strings.Repeat("x", 128), nil), nil, nil, 401, invalidToken, 0, []string{strings.Repeat("x", 128)}},
		{"server error", withID(id, nil), reply(503, ""), nil, 503, unavailable, 0, []string{id}},
		{"rate limit", withID(id, nil), reply(429, "", "Retry-After", "60"), nil, 503, unavailable, 0, []string{id}},
		{"key rotated", withID(id, nil), apiError(401, "UNAUTHORIZED"), nil, 503, unavailable, 0, []string{id}},
		{"silence", withID(id, nil), hang, nil, 503, unavailable, 2 * time.Second, []string{id}},
		{"client gone", withID(id, nil), hang, gone, 503, unavailable, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				w := newWorld(t, grants.Options{NoStream: true, Log: log.log()})
				w.serve(tt.question, id)
				reached := false
				h := w.cache.Middleware(tt.grantID)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					reached = true
					require.NoError(t, r.Context().Err())
					require.Equal(t, 1, w.cache.Status().Contexts)
				}))
				r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
				if tt.ctx != nil {
					r = r.WithContext(tt.ctx)
				}
				rec := httptest.NewRecorder()
				start := time.Now()
				h.ServeHTTP(rec, r)
				require.Equal(t, tt.after, time.Since(start))
				require.Equal(t, tt.status, rec.Code)
				require.Equal(t, tt.status == 200, reached)
				requireHeaders(t, tt.header, rec)
				require.Equal(t, tt.asked, w.requests())
				require.Zero(t, w.cache.Status().Contexts)
				time.Sleep(10 * time.Second) // until a question that's under way is given up
			})
		})
	}
}

// requireHeaders checks that a rejection has these headers, and gives no other reason.
func requireHeaders(t *testing.T, want map[string][]string, rec *httptest.ResponseRecorder) {
	t.Helper()
	for _, name := range []string{"Www-Authenticate", "Retry-After"} {
		require.Equal(t, want[name], rec.Header()[name], name)
	}
	if rec.Code != http.StatusOK {
		require.Equal(t, http.StatusText(rec.Code)+"\n", rec.Body.String())
	}
}

// TestMiddlewareEndsRequests checks that a request in flight ends when its grant ends
// or can't be proved any more, and that it keeps the values and the end of the request's
// own context.
func TestMiddlewareEndsRequests(t *testing.T) {
	hangUp := errors.New("the client is gone")
	type key struct{}
	tests := []struct {
		name  string
		end   func(c *grants.Cache, leave context.CancelCauseFunc)
		cause error
		after time.Duration // at most
	}{
		{"the grant ends", func(c *grants.Cache, _ context.CancelCauseFunc) { c.MarkEnded("grnt_1") }, grants.ErrEnded, 0},
		{"no proof", func(*grants.Cache, context.CancelCauseFunc) {}, grants.ErrStale, 5 * time.Minute},
		{"the client leaves", func(_ *grants.Cache, leave context.CancelCauseFunc) { leave(hangUp) }, hangUp, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, cache := newDesk(t, grants.Options{}, nil)
				ctx, leave := context.WithCancelCause(context.WithValue(t.Context(), key{}, "kept"))
				defer leave(nil)
				var start time.Time
				h := cache.Middleware(withID("grnt_1", nil))(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					start = time.Now()
					require.Equal(t, "kept", r.Context().Value(key{}))
					go tt.end(cache, leave)
					<-r.Context().Done()
					require.Equal(t, tt.cause, context.Cause(r.Context()))
				}))
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
				require.False(t, start.IsZero(), "next was called")
				require.LessOrEqual(t, time.Since(start), tt.after)
				require.Zero(t, cache.Status().Contexts)
			})
		})
	}
}

// TestMiddlewarePanics checks that a panic lets no request through, reaches the server,
// and leaves no Context open.
func TestMiddlewarePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk(t, grants.Options{}, nil)
		called := false
		next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			called = true
			panic("next")
		})
		serve := func(grantID func(*http.Request) (string, error)) func() {
			return func() {
				cache.Middleware(grantID)(next).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
			}
		}
		require.PanicsWithValue(t, "token", serve(func(*http.Request) (string, error) { panic("token") }))
		require.False(t, called)
		list, _ := d.questions()
		require.Empty(t, list)
		require.PanicsWithValue(t, "next", serve(withID("grnt_1", nil)))
		require.True(t, called)
		require.Zero(t, cache.Status().Contexts)
		require.PanicsWithValue(t, "grants: Middleware needs a function that returns the grant ID of a request", func() { cache.Middleware(nil) })
	})
}
