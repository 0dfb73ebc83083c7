package grants_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/grants"
)

const listed = 100_000

// listedID returns the ID of a listed grant. It's as long as Grantex's.
func listedID(i int) string { return fmt.Sprintf("grnt_%026d", i) }

// A list is a transport that responds with a list of active grants.
type list []byte

func newList(n int) list {
	var b bytes.Buffer
	b.WriteString(`{"grants":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"grantId":%q,"agentId":"ag_01M8CB3B9F5ADEBK162DJ1JMW1","principalId":"user_1","developerId":"dev_01M8CB3B73N2XGC6RVESQJMVXM","scopes":["read","write"],"status":"active","issuedAt":"2026-11-26T16:30:27.000Z","expiresAt":"2099-11-27T16:30:27.000Z","delegationDepth":0}`, listedID(i))
	}
	b.WriteString(`]}`)
	return bytes.Clone(b.Bytes())
}

func (l list) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(bytes.NewReader(l)),
	}, nil
}

// newListed returns a Cache with n listed grants.
func newListed(b *testing.B, n int) *grants.Cache {
	b.Helper()
	grants.SetClock(time.Now) // in place of the model's
	c, err := grants.New(&grantexapi.Client{APIKey: "gx_test_1", HTTPClient: &http.Client{Transport: newList(n)}}, nil)
	require.NoError(b, err)
	require.NoError(b, c.Sync(b.Context()))
	return c
}

// shuffled returns the IDs of n listed grants in random order. Each is a string of its
// own, as from a token.
func shuffled(n int) []string {
	ids := make([]string, n)
	for i, j := range rand.Perm(n) {
		ids[i] = listedID(j)
	}
	return ids
}

// BenchmarkCheck measures Check of a hot grant, and of one of many at random. The ratio
// compares that with the least a cache can do: looking into a map under an RWMutex, and
// at the clock.
func BenchmarkCheck(b *testing.B) {
	ctx := b.Context()
	b.Run("hot", func(b *testing.B) {
		c, id := newListed(b, 1), listedID(0)
		b.ReportAllocs()
		for b.Loop() {
			if c.Check(ctx, id) != nil {
				b.Fatal("the grant is active")
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		c, id := newListed(b, 1), listedID(0)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if c.Check(ctx, id) != nil {
					b.Error("the grant is active")
				}
			}
		})
	})
	b.Run("random", func(b *testing.B) {
		c, ids := newListed(b, listed), shuffled(listed)
		var mu sync.RWMutex
		bare := make(map[string]time.Time, listed)
		for _, id := range ids {
			bare[strings.Clone(id)] = time.Now()
		}
		rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		const round = 10_000
		at := 0
		each := func(f func(id string) bool) time.Duration {
			start := time.Now()
			for _, id := range ids[at : at+round] {
				if !f(id) {
					b.Fatal("the grant is active")
				}
			}
			return time.Since(start)
		}
		var ratios []float64
		for b.Loop() {
			base := each(func(id string) bool {
				now := time.Now()
				mu.RLock()
				at, ok := bare[id]
				mu.RUnlock()
				return ok && now.Sub(at) < time.Hour
			})
			ours := each(func(id string) bool { return c.Check(ctx, id) == nil })
			ratios = append(ratios, float64(ours)/float64(base))
			at = (at + round) % (len(ids) - round)
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "ratio")
		b.ReportMetric(0, "ns/op") // of a round of both, which isn't useful
	})
}

// BenchmarkCheckDuringList measures checks while one list after the other comes in.
func BenchmarkCheckDuringList(b *testing.B) {
	c, ids := newListed(b, listed), shuffled(listed)
	ctx, stop := context.WithCancel(b.Context())
	var lists sync.WaitGroup
	lists.Go(func() {
		for ctx.Err() == nil {
			_ = c.Sync(ctx)
		}
	})
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		start := time.Now()
		err := c.Check(ctx, ids[len(took)%listed])
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
	}
	stop()
	lists.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(float64(took[len(took)/2]), "median-ns")
}

// BenchmarkContext measures a Context of a listed grant and its end.
func BenchmarkContext(b *testing.B) {
	c, id := newListed(b, 1), listedID(0)
	b.ReportAllocs()
	for b.Loop() {
		_, cancel, err := c.Context(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}

// BenchmarkList measures taking in a list: the garbage of each grant, and what stays.
func BenchmarkList(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := newListed(b, listed)
	runtime.GC()
	runtime.ReadMemStats(&after)
	text := float64(len(newList(listed)))
	kept := float64(after.HeapAlloc) - float64(before.HeapAlloc) - text

	var spent uint64
	n := 0
	for b.Loop() {
		runtime.ReadMemStats(&before)
		require.NoError(b, c.Sync(b.Context()))
		runtime.ReadMemStats(&after)
		spent += after.TotalAlloc - before.TotalAlloc
		n++
	}
	b.ReportMetric(kept/listed, "kept-B/grant")
	b.ReportMetric(float64(spent)/float64(n)/listed, "B/grant")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/listed, "ns/grant")
	b.ReportMetric(0, "ns/op")
}
