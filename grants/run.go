package grants

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
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
// after everything in flight has ended, requests included. Then the Cache works as it
// does without Run. A second Run at the same time is an error.
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

// backoff returns a wait that doubles with each try, with a random extra.
func backoff(tries int, least, most time.Duration) time.Duration {
	wait := min(most, least<<min(tries-1, 16))
	return min(most, wait+rand.N(wait/4+1))
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
