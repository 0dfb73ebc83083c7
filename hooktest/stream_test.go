package hooktest_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/hooktest"
)

// connect opens a stream. It returns once the header has come, or fails.
func connect(t *testing.T, a *hooktest.API, ctx context.Context, query string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.grantex.dev/v1/events/stream"+query, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer gx_test_1")
	resp, err := a.Client().Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestStreamLikeReal checks the head of a stream, that it comes with the first comment
// and not before, and the bytes of comments and events.
func TestStreamLikeReal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		start := time.Now()
		resp := connect(t, a, t.Context(), "")
		require.Equal(t, 30*time.Second, time.Since(start))
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
		require.Equal(t, "no-cache", resp.Header.Get("Cache-Control"))
		require.Equal(t, "keep-alive", resp.Header.Get("Connection"))
		require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
		require.Equal(t, []string{"chunked"}, resp.TransferEncoding)

		time.Sleep(45 * time.Second)
		event := hooktest.Raw(`{"id":"evt_1","type":"x.y","createdAt":"2026-11-23T12:01:56.867Z","data":{}}`)
		a.Publish(event)
		got := make([]byte, 500)
		n, err := io.ReadAtLeast(resp.Body, got, len(": keepalive\n\n: keepalive\n\ndata: \n\n")+len(event))
		require.NoError(t, err)
		require.Equal(t, ": keepalive\n\n: keepalive\n\ndata: "+string(event)+"\n\n", string(got[:n]))
		require.Equal(t, 75*time.Second, time.Since(start))
	})
}

// TestStreamTypes checks that a stream carries the types that it asks for, or all.
func TestStreamTypes(t *testing.T) {
	tests := []struct{ name, query, want string }{
		{"all", "", "grant.created token.issued grant.revoked x.y"},
		{"one", "?types=grant.revoked", "grant.revoked"},
		{"two", "?types=grant.created,x.y", "grant.created x.y"},
		{"unknown", "?types=y", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newAPI(t)
				resp := connect(t, a, t.Context(), tt.query)
				a.Revoke(a.Create(grantexhook.GrantCreated{}).GrantID)
				a.Publish(hooktest.Event{Type: "x.y"})
				synctest.Wait()
				go func() {
					time.Sleep(time.Minute)
					a.Close()
				}()
				var types []string
				for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
					if body, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
						types = append(types, hooktest.Raw(body).EventType())
					}
				}
				require.Equal(t, tt.want, strings.Join(types, " "))
			})
		})
	}
}

// TestStreamWithoutKey checks that a key is needed, though any will do.
func TestStreamWithoutKey(t *testing.T) {
	a, _ := newAPI(t)
	for _, key := range []string{"", "gx_test_1", "Bearer ", "Bearer a b", "Bearer ä", "Basic abc"} {
		for _, path := range []string{"/v1/events/stream", "/v1/grants", "/v1/webhooks"} {
			req, err := http.NewRequest(http.MethodGet, "https://api.grantex.dev"+path, nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", key)
			resp, err := a.Client().Do(req)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 401, resp.StatusCode)
		}
	}
}

// open opens n streams that end with the returned function.
func open(t *testing.T, a *hooktest.API, n int) (end func()) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	for range n {
		go func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.grantex.dev/v1/events/stream", nil)
			req.Header.Set("Authorization", "Bearer gx_test_1")
			if resp, err := a.Client().Do(req); err == nil {
				<-ctx.Done()
				resp.Body.Close()
			}
		}()
	}
	synctest.Wait()
	return end
}

// refused reports whether another stream would be refused, and opens it if not.
func refused(t *testing.T, a *hooktest.API) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := connect(t, a, ctx, "")
	if resp.StatusCode == 200 {
		return false
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 429, resp.StatusCode)
	require.Regexp(t, `^{"message":"Too many connections","code":"TOO_MANY_CONNECTIONS","requestId":"[^"]{36}"}$`, string(body))
	return true
}

// TestFiveStreams checks the limit, and that a stream that the client ends frees its
// place at once.
func TestFiveStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		end := open(t, a, 4)
		require.False(t, refused(t, a))
		synctest.Wait()
		fifth := open(t, a, 1)
		require.True(t, refused(t, a))
		time.Sleep(time.Hour)
		require.True(t, refused(t, a), "streams that are open count however old they are")
		fifth()
		synctest.Wait()
		require.False(t, refused(t, a))
		end()
	})
}

// TestCrash checks the trap: the counter keeps the streams of a killed process for 300
// seconds, and each try starts that time over.
func TestCrash(t *testing.T) {
	tests := []struct {
		name    string
		streams int
		every   time.Duration // between tries
		want    []bool        // which are refused
	}{
		{"patient", 5, 300 * time.Second, []bool{false}},
		{"a second too early", 5, 299 * time.Second, []bool{true, true, true, true}},
		{"first try at once", 5, 0, []bool{true, true}},
		{"room for one", 4, time.Second, []bool{false, false, false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newAPI(t)
				open(t, a, tt.streams)
				time.Sleep(time.Hour)
				a.Crash()
				for _, want := range tt.want {
					time.Sleep(tt.every)
					require.Equal(t, want, refused(t, a))
					synctest.Wait()
				}
			})
		})
	}
}

// TestCrashBreaksStreams checks that a client sees a broken connection, not an end.
func TestCrashBreaksStreams(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(*hooktest.API)
	}{{"crash", (*hooktest.API).Crash}, {"close", (*hooktest.API).Close}} {
		t.Run(how.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newAPI(t)
				resp := connect(t, a, t.Context(), "")
				how.end(a)
				_, err := io.ReadAll(resp.Body)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			})
		})
	}
}

// TestStalledStream checks that a client that doesn't read holds up neither the API nor
// the other streams.
func TestStalledStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(t)
		stalled := connect(t, a, t.Context(), "")
		reading := connect(t, a, t.Context(), "?types=x.y")
		for range 1000 {
			a.Create(grantexhook.GrantCreated{})
		}
		a.Publish(hooktest.Event{Type: "x.y"})
		line, err := bufio.NewReader(io.MultiReader(io.LimitReader(reading.Body, 13), reading.Body)).ReadString('}')
		require.NoError(t, err)
		require.Contains(t, line, "x.y")
		n := 0
		for lines := bufio.NewScanner(stalled.Body); n < 2000 && lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: ") {
				n++
			}
		}
		require.Equal(t, 2000, n)
	})
}
