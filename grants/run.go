package grants

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// work is what is in flight. It ends with Run.
type work struct {
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func newWork() *work {
	w := &work{}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Run keeps the Cache up to date until ctx ends: it asks for lists, reads the live
// stream, calls Options.Ended, and drops what isn't needed from memory. It returns nil
// once all that has ended, with every request in flight. A second Run at the same time is an error. After Run
// has returned, the Cache still works as it does without Run.
func (c *Cache) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("grants: Run is already running; call it once for each Cache")
	}
	c.running = true
	c.lookLater()
	if !c.opts.noLists() && c.lists.current == nil {
		c.list()
	}
	c.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { c.runTelling(ctx) })
	if !c.opts.noLists() {
		wait.Go(func() { c.runLists(ctx) })
	}
	if !c.opts.NoStream {
		wait.Go(func() { c.runStream(ctx) })
	}
	wait.Wait()
	c.stop()
	return nil
}

// stop ends everything in flight.
func (c *Cache) stop() {
	c.mu.Lock()
	old := c.work
	c.work, c.running = newWork(), false
	c.questions.flush(errStopped)
	old.cancel()
	c.mu.Unlock()
	old.wait.Wait()
}

// runStream reads the live stream until ctx ends. Events reconnects by itself unless a
// retry won't help, for example because the API key was revoked.
func (c *Cache) runStream(ctx context.Context) {
	defer c.connected.Store(false)
	for tries := 1; ; tries++ {
		for body, err := range c.client.Events(ctx) {
			if err == nil {
				tries = 1
			}
			c.hear(body, err)
		}
		c.connected.Store(false)
		if !sleep(ctx, backoff(tries, time.Minute, 15*time.Minute)) {
			return
		}
	}
}

// hear handles what Events yields.
func (c *Cache) hear(body []byte, err error) {
	interrupted, passes := errors.AsType[*grantexapi.Interrupted](err)
	switch {
	case passes && interrupted.Wait == 0: // skipped an event, and yields nil, nil next
	case err != nil:
		c.connected.Store(false)
		c.problem(streaming, err)
	case body == nil: // events may be missing
		c.connected.Store(true)
		c.problem(streaming, nil)
		c.listSoon()
	default:
		ids, others := endedBy(body)
		c.end(ids...)
		if others {
			c.listSoon()
		}
	}
}

// harmless are the types of events that end no grant.
var harmless = []string{
	grantexhook.TypeGrantCreated, grantexhook.TypeTokenIssued, "budget.threshold", "budget.exhausted", "vc.issued",
	"consent_bundle.created", "consent_bundle.synced", "dpdp.consent.created", "dpdp.grievance.filed", "anomaly.detected",
}

// endedBy returns the grants that an event ended, and whether it may have ended others
// that it doesn't name.
func endedBy(body []byte) (ids []string, others bool) {
	var e struct {
		Type string
		Data struct {
			GrantID       string
			Cascade       bool
			RevokedGrants []string // anomaly.auto_revoked
			GrantRevoked  *bool    // dpdp.consent.withdrawn
			GrantsRevoked *int     // dpdp.erasure.completed
			RevokeGrant   *bool    // consent_bundle.revoked
		}
	}
	if json.Unmarshal(body, &e) != nil {
		return nil, true
	}
	d := e.Data
	switch e.Type {
	case grantexhook.TypeGrantRevoked:
		return []string{d.GrantID}, d.Cascade || !valid(d.GrantID)
	case "anomaly.auto_revoked":
		return d.RevokedGrants, d.RevokedGrants == nil || len(d.RevokedGrants) > 0
	case "dpdp.consent.withdrawn":
		return nil, d.GrantRevoked == nil || *d.GrantRevoked
	case "dpdp.erasure.completed":
		return nil, d.GrantsRevoked == nil || *d.GrantsRevoked > 0
	case "consent_bundle.revoked":
		return nil, d.RevokeGrant == nil || *d.RevokeGrant
	}
	return nil, !slices.Contains(harmless, e.Type)
}

// What may fail.
const (
	listingGrants = iota
	askingGrants
	streaming
	callingEnded
	failing // how many there are
)

var failures = [failing]string{
	"listing the active grants fails", "asking for a grant fails",
	"the live stream is interrupted", "Options.Ended fails; it will be called again",
}

// problems holds the last error of each, or nil.
type problems struct {
	mu   sync.Mutex
	errs [failing]error
	loud [failing]bool // logged as needing attention since it began
}

func (p *problems) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs[:]...)
}

// problem records how something went. It logs when that begins to fail, when the
// failure becomes one that needs attention, and when it's over.
func (c *Cache) problem(what int, err error) {
	p := &c.problems
	level, loud := slog.LevelWarn, err != nil && !temporary(err)
	if loud {
		level = slog.LevelError
	}
	p.mu.Lock()
	before, worse := p.errs[what], loud && !p.loud[what]
	p.errs[what], p.loud[what] = err, err != nil && (loud || p.loud[what])
	p.mu.Unlock()
	switch {
	case err == nil && before != nil:
		c.opts.Log.Info("grants: works again: " + failures[what])
	case err != nil && (before == nil || worse):
		c.opts.Log.Log(context.Background(), level, "grants: "+failures[what], "error", err)
	}
}

// temporary reports whether an error may pass by itself.
func temporary(err error) bool {
	if e, ok := errors.AsType[*grantexapi.Error](err); ok {
		return e.StatusCode >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, e.StatusCode)
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded)
}

// sleep waits for d, and reports whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
