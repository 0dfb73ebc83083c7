package hooktest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/hooktest"
)

// A recorder records the deliveries that its handler gets.
type recorder struct {
	mu     sync.Mutex
	got    []string // "after type id"
	start  time.Time
	status int // of the responses; 200 if zero
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var e grantexhook.RawEvent
	json.Unmarshal(body, &e)
	r.mu.Lock()
	r.got = append(r.got, fmt.Sprintf("%v %s %s", time.Since(r.start), e.Type, e.ID))
	status := r.status
	r.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
	}
}

// received returns the deliveries so far, once all goroutines wait.
func (r *recorder) received() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func deliveries(t *testing.T, c *grantexapi.Client, endpointID string) (all []grantexapi.Delivery) {
	t.Helper()
	for d, err := range c.Deliveries(t.Context(), endpointID, "") {
		require.NoError(t, err)
		all = append(all, d)
	}
	return all
}

// TestEndpointDelivers checks retries, what is listed in the meantime, and giving up.
func TestEndpointDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		r := &recorder{start: time.Now(), status: 500}
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r, Path: "/hook"}, "x.y")
		a.Publish(hooktest.Event{ID: "evt_1", Type: "x.y"})
		a.Publish(hooktest.Event{ID: "evt_2", Type: "x.z"}) // not subscribed to
		time.Sleep(time.Minute + time.Second)
		require.Equal(t, []string{"0s x.y evt_1", "1m0s x.y evt_1"}, r.received())
		d := deliveries(t, c, id)[0]
		require.Equal(t, []any{"pending", 2, 5, "HTTP 500", true}, []any{d.Status, d.Attempts, d.MaxAttempts, d.LastError, d.DeliveredAt.IsZero()})
		require.Equal(t, "http://example.com/hook", d.URL)
		time.Sleep(time.Hour)
		require.Equal(t, "9m30s x.y evt_1", r.received()[4])
		require.Len(t, r.received(), 5)
		d = deliveries(t, c, id)[0]
		require.Equal(t, []any{"failed", 5, "HTTP 500"}, []any{d.Status, d.Attempts, d.LastError})
	})
}

// TestEndpointLikeItsSender checks that a Sender's other fields have their effect.
func TestEndpointLikeItsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		r := &recorder{start: time.Now(), status: 503}
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r, Attempts: 3, Soonest: true}, "x.y")
		a.Publish(hooktest.Event{ID: "evt_1", Type: "x.y"})
		time.Sleep(time.Hour)
		require.Equal(t, []string{"0s x.y evt_1", "30s x.y evt_1", "1m30s x.y evt_1"}, r.received())
		d := deliveries(t, c, id)[0]
		require.Equal(t, []any{"failed", 3, 3}, []any{d.Status, d.Attempts, d.MaxAttempts})
	})
}

// TestEndpointThatCrashesGrantex checks that a 204 is reported as neither a success nor
// a failure.
func TestEndpointThatCrashesGrantex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		r := &recorder{start: time.Now(), status: 204}
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r}, "x.y")
		a.Publish(hooktest.Event{ID: "evt_1", Type: "x.y"})
		time.Sleep(time.Hour)
		require.Equal(t, []string{"0s x.y evt_1"}, r.received())
		d := deliveries(t, c, id)[0]
		require.Equal(t, []any{"pending", 1, "HTTP 204"}, []any{d.Status, d.Attempts, d.LastError})
	})
}

// TestEndpointsOfAProgram checks Create, List, Rotate, Deliveries and Delete of a client
// in a bubble. Endpoints at the URL of one with a Handler deliver to it.
func TestEndpointsOfAProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		r := &recorder{start: time.Now()}
		first := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r, Path: "/hook"})
		second, err := c.Create(t.Context(), "http://example.com/hook", grantexhook.TypeGrantRevoked)
		require.NoError(t, err)
		time.Sleep(time.Second)
		twin, err := c.Rotate(t.Context(), second.ID)
		require.NoError(t, err)
		require.Regexp(t, `^[0-9a-f]{48}$`, string(twin.Secret))
		require.NotEqual(t, second.Secret, twin.Secret)
		list, err := c.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{twin.ID, second.ID, first}, []string{list[0].ID, list[1].ID, list[2].ID})
		require.Equal(t, []string{"grant.created", "grant.revoked", "token.issued"}, list[2].Events)

		a.Revoke(a.Create(grantexhook.GrantCreated{}).GrantID)
		got := r.received()
		require.Len(t, got, 5)
		slices.Sort(got)
		require.Equal(t, got[1], got[2], "the same event from each")
		require.Equal(t, got[2], got[3])
		require.Equal(t, grantexapi.StatusDelivered, deliveries(t, c, twin.ID)[0].Status)

		require.NoError(t, c.Delete(t.Context(), twin.ID))
		require.Error(t, c.Delete(t.Context(), twin.ID))
		require.Error(t, func() (err error) {
			for _, err = range c.Deliveries(t.Context(), twin.ID, "") {
			}
			return err
		}())
	})
}

// TestDeletedEndpoint checks that its pending deliveries are dropped.
func TestDeletedEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		r := &recorder{start: time.Now(), status: 500}
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r})
		a.Revoke(a.Create(grantexhook.GrantCreated{}).GrantID)
		require.Len(t, r.received(), 3)
		require.NoError(t, c.Delete(t.Context(), id))
		a.Create(grantexhook.GrantCreated{})
		time.Sleep(time.Hour)
		require.Len(t, r.received(), 3)
	})
}

// TestPagesOfDeliveries checks that pages hold each delivery once, newest first.
func TestPagesOfDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: new(recorder)}, "x.y")
		for i := range 250 {
			a.Publish(hooktest.Event{ID: fmt.Sprintf("evt_%03d", i), Type: "x.y"})
		}
		all := deliveries(t, c, id)
		require.Len(t, all, 250)
		for i, d := range all {
			require.Equal(t, fmt.Sprintf("evt_%03d", 249-i), d.EventID)
		}
		_, body := get(t, a.Client(), "GET", "/v1/webhooks/"+id+"/deliveries?page=1e0&pageSize=500")
		require.True(t, strings.HasSuffix(body, `"total":250,"page":1,"pageSize":100}`))
	})
}

func TestMisuseOfEndpoints(t *testing.T) {
	tests := []struct {
		name, want string
		sender     hooktest.Sender
	}{
		{"no secret", "hooktest: Sender.Secret: ", hooktest.Sender{Handler: new(recorder)}},
		{"no target", "hooktest: the Sender has no target; set Handler or URL", hooktest.Sender{Secret: secret}},
		{"two targets", "hooktest: the Sender has two targets", hooktest.Sender{Secret: secret, Handler: new(recorder), URL: "http://example.com"}},
		{"malformed URL", "hooktest: the Sender's target: grantexhook: the URL must begin with", hooktest.Sender{Secret: secret, URL: "example.com"}},
		{"negative cut", "hooktest: Sender.Cut is -1", hooktest.Sender{Secret: secret, Handler: new(recorder), Cut: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newAPI(t)
			defer func() { require.Contains(t, recover(), tt.want) }()
			a.Endpoint(tt.sender)
		})
	}
}

// TestSchedule checks that events can be lost, late, doubled and out of order, for an
// endpoint and the stream separately.
func TestSchedule(t *testing.T) {
	tests := []struct {
		name             string
		endpoint, stream map[string][]time.Duration // by event
		wantEndpoint     []string
		wantStream       []string
	}{
		{"lost", nil, nil, nil, nil},
		{"lost for endpoints", nil, map[string][]time.Duration{"1": {0}}, nil, []string{"0s 1"}},
		{"lost on the stream", map[string][]time.Duration{"1": {0}}, nil, []string{"0s 1"}, nil},
		{"late", map[string][]time.Duration{"1": {time.Minute}}, map[string][]time.Duration{"1": {time.Second}}, []string{"1m0s 1"}, []string{"1s 1"}},
		{"doubled", map[string][]time.Duration{"1": {0, time.Hour}}, map[string][]time.Duration{"1": {0, 0, time.Hour}},
			[]string{"0s 1", "1h0m0s 1"}, []string{"0s 1", "0s 1", "1h0m0s 1"}},
		{"out of order", map[string][]time.Duration{"1": {time.Second}, "2": {0}}, map[string][]time.Duration{"1": {2}, "2": {1}},
			[]string{"0s 2", "1s 1"}, []string{"1ns 2", "2ns 1"}},
		{"negative", map[string][]time.Duration{"1": {-1}}, map[string][]time.Duration{"1": {-1}}, []string{"0s 1"}, []string{"0s 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, c := newAPI(t)
				start := time.Now()
				r := &recorder{start: start}
				id := a.Endpoint(hooktest.Sender{Secret: secret, Handler: r}, "x.y")
				var mu sync.Mutex
				var streamed []string
				go func() {
					for body := range c.Events(t.Context()) {
						var e grantexhook.RawEvent
						if json.Unmarshal(body, &e) == nil {
							mu.Lock()
							streamed = append(streamed, fmt.Sprintf("%v %s", time.Since(start), e.ID))
							mu.Unlock()
						}
					}
				}()
				synctest.Wait()
				a.Schedule(func(e grantexhook.RawEvent, endpointID string) []time.Duration {
					if endpointID == "" {
						return tt.stream[e.ID]
					}
					require.Equal(t, id, endpointID)
					return tt.endpoint[e.ID]
				})
				a.Publish(hooktest.Event{ID: "1", Type: "x.y"})
				a.Publish(hooktest.Event{ID: "2", Type: "x.y"})
				time.Sleep(2 * time.Hour)
				var received []string
				for _, got := range r.received() {
					received = append(received, strings.Replace(got, " x.y", "", 1))
				}
				require.Equal(t, tt.wantEndpoint, received)
				mu.Lock()
				require.Equal(t, tt.wantStream, streamed)
				mu.Unlock()

				a.Schedule(nil)
				a.Publish(hooktest.Event{ID: "3", Type: "x.y"})
				require.Contains(t, r.received(), "2h0m0s x.y 3")
			})
		})
	}
}

// TestConcurrentUse checks with the race detector that everything can happen at once, and
// that Close ends it all.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := newAPI(t)
		a.Endpoint(hooktest.Sender{Secret: secret, Handler: &recorder{status: 500}})
		a.Schedule(func(grantexhook.RawEvent, string) []time.Duration { return []time.Duration{rand.N(time.Minute), 0} })
		end := make(chan struct{})
		for range 4 {
			go func() {
				for range c.Events(t.Context()) {
				}
			}()
			go func() {
				for i := range 50 {
					g := a.Create(grantexhook.GrantCreated{})
					a.Create(grantexhook.GrantCreated{ParentGrantID: g.GrantID})
					switch i % 3 {
					case 0:
						a.Revoke(g.GrantID)
					case 1:
						a.RevokeBy("anomaly.auto_revoked", g.GrantID)
					case 2:
						a.DeleteAgent(g.AgentID)
					}
					time.Sleep(time.Second)
				}
				end <- struct{}{}
			}()
			go func() {
				for range 20 {
					n := 0
					for _, err := range c.Grants(t.Context(), grantexapi.GrantQuery{Status: "active"}) {
						require.NoError(t, err)
						n++
					}
					a.Intercept(nil)
					time.Sleep(2 * time.Second)
				}
				end <- struct{}{}
			}()
		}
		time.Sleep(10 * time.Second)
		a.Crash()
		for range 8 {
			<-end
		}
		n := 0
		for _, err := range c.Grants(t.Context(), grantexapi.GrantQuery{Status: "active"}) {
			require.NoError(t, err)
			n++
		}
		// each child but those of revoked grants
		require.Equal(t, 4*(50-17), n)
		a.Close()
	})
}
