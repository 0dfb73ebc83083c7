package grantexapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
)

// pages responds as the API does for a list of n deliveries, to which grow more
// come before each page after the first.
func pages(n, grow int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.FormValue("page"))
		size, _ := strconv.Atoi(r.FormValue("pageSize"))
		total := n + grow*(page-1)
		list := []map[string]string{}
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			list = append(list, map[string]string{"id": strconv.Itoa(total - i)})
		}
		json.NewEncoder(w).Encode(map[string]any{"deliveries": list, "total": total, "page": page, "pageSize": size})
	}
}

func TestDeliveriesPages(t *testing.T) {
	tests := []struct {
		name                       string
		n, grow                    int
		want, wantUnique, wantAsks int
	}{
		{"none", 0, 0, 0, 0, 1},
		{"one", 1, 0, 1, 1, 1},
		{"full page", 100, 0, 100, 100, 1},
		{"one more", 101, 0, 101, 101, 2},
		{"three", 250, 0, 250, 250, 3},
		{"growing", 250, 7, 264, 250, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, pages(tt.n, tt.grow))
			seq := a.client().Deliveries(t.Context(), "wh_1", "")
			require.Empty(t, a.lines(), "there's no call before the loop")
			for round := range 2 {
				got, err := collect(seq)
				require.NoError(t, err)
				require.Len(t, got, tt.want)
				unique := ids(got)
				slices.Sort(unique)
				require.Len(t, slices.Compact(unique), tt.wantUnique)
				require.Len(t, a.lines(), (round+1)*tt.wantAsks)
			}
		})
	}
}

func TestDeliveriesBreak(t *testing.T) {
	for _, n := range []int{1, 100, 101} {
		a := newAPI(t, pages(1000, 0))
		seen := 0
		for _, err := range a.client().Deliveries(t.Context(), "wh_1", "") {
			require.NoError(t, err)
			if seen++; seen == n {
				break
			}
		}
		require.Len(t, a.lines(), (n+99)/100)
	}
}

func TestDeliveriesError(t *testing.T) {
	a := newAPI(t, pages(1000, 0), says(503, "busy"))
	got, err := collect(a.client().Deliveries(t.Context(), "wh_1", grantexapi.StatusPending))
	require.Len(t, got, 100)
	requireRefused(t, err, 503, "")
	require.Equal(t, []string{
		"GET /v1/webhooks/wh_1/deliveries?page=1&pageSize=100&status=pending",
		"GET /v1/webhooks/wh_1/deliveries?page=2&pageSize=100&status=pending",
	}, a.lines())
}

// TestDeliveriesGoOn checks that a loop that continues after an error gets every
// delivery exactly once.
func TestDeliveriesGoOn(t *testing.T) {
	tests := []struct {
		name  string
		fails http.Handler
	}{
		{"408", says(408, "")},
		{"425", says(425, "")},
		{"429", says(429, `{"code":"RATE_LIMIT_EXCEEDED"}`)},
		{"500", says(500, "")},
		{"502", says(502, "<html>")},
		{"503", says(503, "busy")},
		{"504", says(504, "")},
		{"520", says(520, "")},
		{"page of a proxy", says(200, "<html>back soon</html>")},
		{"other page", says(200, `{"deliveries":[{"id":"1"}],"total":250,"page":3}`)},
		{"bad delivery among good ones", says(200, `{"deliveries":[{"id":"150"},{"id":""}],"total":250,"page":2}`)},
		{"too large", says(200, strings.Repeat(" ", 1<<20+1))},
		{"cut", cut(200, `{"deliveries":[`)},
		{"no response", raw("")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pages := pages(250, 0)
			a := newAPI(t, tt.fails, pages, tt.fails, tt.fails, pages, pages, tt.fails)
			c := a.client()
			c.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // net/http repeats what a kept connection lost
			got, errs := goOn(c.Deliveries(t.Context(), "wh_1", ""))
			require.Len(t, errs, 3)
			var want []string
			for id := 250; id > 0; id-- {
				want = append(want, strconv.Itoa(id))
			}
			require.Equal(t, want, ids(got))
			var asked []string
			for _, line := range a.lines() {
				_, query, _ := strings.Cut(line, "?")
				asked = append(asked, strings.TrimSuffix(query, "&pageSize=100"))
			}
			require.Equal(t, []string{"page=1", "page=1", "page=2", "page=2", "page=2", "page=3"}, asked)
		})
	}
}

// TestDeliveriesOverTheLimit checks that a loop can read a list of more pages than
// an account has calls in a window, if it waits as the API asks it to.
func TestDeliveriesOverTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls, window = 10, time.Minute
		list := pages(1500, 0)
		var began time.Time
		n := 0
		limited := roundTripper(func(r *http.Request) (*http.Response, error) {
			if time.Since(began) >= window {
				began, n = time.Now(), 0
			}
			w := httptest.NewRecorder()
			if n++; n > calls {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil((window - time.Since(began)).Seconds()))))
				w.WriteHeader(http.StatusTooManyRequests)
			} else {
				list(w, r)
			}
			return w.Result(), nil
		})
		c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: limited}}
		start := time.Now()
		var got []grantexapi.Delivery
		for d, err := range c.Deliveries(t.Context(), "wh_1", "") {
			if err != nil {
				time.Sleep(requireRefused(t, err, http.StatusTooManyRequests, "").RetryAfter)
				continue
			}
			got = append(got, d)
		}
		require.Equal(t, window, time.Since(start))
		unique := ids(got)
		slices.Sort(unique)
		require.Equal(t, 1500, len(got))
		require.Equal(t, 1500, len(slices.Compact(unique)))
	})
}

// goOn returns what a loop gets if it continues after errors, up to ten of them.
func goOn(seq iter.Seq2[grantexapi.Delivery, error]) (all []grantexapi.Delivery, errs []error) {
	for d, err := range seq {
		if err == nil {
			all = append(all, d)
			continue
		}
		if errs = append(errs, err); len(errs) == 10 {
			break
		}
	}
	return all, errs
}

// TestDeliveriesEnd checks that an error that would only come again ends the
// sequence, even for a loop that would go on.
func TestDeliveriesEnd(t *testing.T) {
	ok := says(200, `{"deliveries":[],"total":0,"page":1}`)
	tests := []struct {
		name   string
		answer http.Handler
		change func(*grantexapi.Client)
		id     string
		status string
		asks   int
	}{
		{"400", says(400, ""), nil, "wh_1", "", 1},
		{"401", says(401, ""), nil, "wh_1", "", 1},
		{"402", says(402, ""), nil, "wh_1", "", 1},
		{"403", says(403, ""), nil, "wh_1", "", 1},
		{"404", says(404, ""), nil, "wh_1", "", 1},
		{"410", says(410, ""), nil, "wh_1", "", 1},
		{"redirect", http.RedirectHandler("/v1/", http.StatusPermanentRedirect), nil, "wh_1", "", 1},
		{"redirect within the Transport", ok, func(c *grantexapi.Client) {
			c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					resp.Request = &http.Request{Response: new(http.Response)}
				}
				return resp, err
			})}
		}, "wh_1", "", 1},
		{"no ID", ok, nil, "", "", 0},
		{"other status", ok, nil, "wh_1", "bogus", 0},
		{"no key", ok, func(c *grantexapi.Client) { c.APIKey = "" }, "wh_1", "", 0},
		{"no URL", ok, func(c *grantexapi.Client) { c.BaseURL = "nowhere" }, "wh_1", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, tt.answer)
			c := a.client()
			if tt.change != nil {
				tt.change(c)
			}
			got, errs := goOn(c.Deliveries(t.Context(), tt.id, tt.status))
			require.Empty(t, got)
			require.Len(t, errs, 1)
			require.Len(t, a.lines(), tt.asks)
		})
	}
}

// TestDeliveriesEndWithTheirContext checks that a loop gets the error of its context
// once.
func TestDeliveriesEndWithTheirContext(t *testing.T) {
	tests := []struct {
		name     string
		underWay bool // or at the first error
		errs     int
	}{
		{"in flight", true, 1},
		{"between two requests", false, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a := newAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.underWay {
					cancel()
					<-r.Context().Done()
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			_, errs := goOn(func(yield func(grantexapi.Delivery, error) bool) {
				for d, err := range a.client().Deliveries(ctx, "wh_1", "") {
					cancel()
					if !yield(d, err) {
						return
					}
				}
			})
			require.Len(t, errs, tt.errs)
			require.ErrorIs(t, errs[tt.errs-1], context.Canceled)
			require.Len(t, a.lines(), 1)
		})
	}
}

// TestDeliveriesGoOnAfterATimeout checks that a timeout of the HTTPClient doesn't
// count as the end of the context.
func TestDeliveriesGoOnAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, list := 0, pages(1, 0)
		slowOnce := roundTripper(func(r *http.Request) (*http.Response, error) {
			if calls++; calls == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			w := httptest.NewRecorder()
			list(w, r)
			return w.Result(), nil
		})
		c := &grantexapi.Client{APIKey: apiKey, HTTPClient: &http.Client{Transport: slowOnce, Timeout: time.Minute}}
		got, errs := goOn(c.Deliveries(t.Context(), "wh_1", ""))
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], context.DeadlineExceeded)
		require.Len(t, got, 1)
	})
}

// TestDeliveriesRejectsPages checks that a page other than the one asked for neither
// ends the list nor is yielded twice.
func TestDeliveriesRejectsPages(t *testing.T) {
	tests := []struct{ name, second string }{
		{"the first again", `"total":101,"page":1`},
		{"no page", `"total":101`},
		{"no total", `"page":2`},
		{"total null", `"total":null,"page":2`},
		{"negative total", `"total":-1,"page":2`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, pages(101, 0), says(200, `{"deliveries":[{"id":"1"}],`+tt.second+`}`))
			got, err := collect(a.client().Deliveries(t.Context(), "wh_1", ""))
			require.ErrorContains(t, err, "/deliveries?page=2&pageSize=100: unexpected response (")
			require.Len(t, got, 100)
		})
	}
}

// TestDeliveriesShort checks that an empty page isn't taken for the end of a list that
// goes on by its total.
func TestDeliveriesShort(t *testing.T) {
	empty := func(page, total int) http.HandlerFunc {
		return says(200, fmt.Sprintf(`{"deliveries":[],"total":%d,"page":%d}`, total, page))
	}
	tests := []struct {
		name   string
		answer http.Handler
		page   int
		want   string
	}{
		{"first page", empty(1, 5), 1, "page=1&pageSize=100: the page is empty, but the API counts 5 deliveries; try again"},
		{"second page", empty(2, 101), 2, "page=2&pageSize=100: the page is empty, but the API counts 101 deliveries; try again"},
		{"empty list", empty(1, 0), 1, ""},
		{"shrunk list", empty(2, 100), 2, ""},
		{"dropped list", empty(2, 0), 2, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pages := pages(150, 0)
			answers := []http.Handler{pages, tt.answer, pages}[2-tt.page:]
			a := newAPI(t, answers...)
			got, errs := goOn(a.client().Deliveries(t.Context(), "wh_1", ""))
			if tt.want == "" {
				require.Empty(t, errs)
				require.Len(t, got, 100*(tt.page-1))
				return
			}
			require.Len(t, errs, 1)
			require.ErrorContains(t, errs[0], tt.want)
			require.Len(t, got, 150)
		})
	}
}
