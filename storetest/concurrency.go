package storetest

import (
	"cmp"
	"fmt"
	"sync/atomic"
	"time"
)

const rivals = 16

func oneWinner(c *checker) {
	for range 10 {
		id := freshID()
		c.wantOneWinner(id, time.Now())
	}
}

func oneHeir(c *checker) {
	for range 3 {
		id := freshID()
		c.claimShortly(id)
		c.wantOneWinner(id, time.Now().Add(patience))
	}
}

// wantOneWinner lets rivals claim id until one of them gets it, or until end. Each
// tries at least once, and once more afterwards.
func (c *checker) wantOneWinner(id string, end time.Time) {
	c.t.Helper()
	var wins atomic.Int32
	c.together(rivals, func() error {
		for again := true; again; time.Sleep(poll / 10) {
			again = wins.Load() == 0 && time.Now().Before(end)
			switch _, found, err := c.try(id, long); {
			case err != nil:
				return err
			case found == done:
				return fmt.Errorf("%q was done, want free or held", id)
			case found == free:
				wins.Add(1)
			}
		}
		return nil
	})
	if n := wins.Load(); n != 1 {
		c.fatalf("%d of %d concurrent callers of Claim(%q) got a token, want 1", n, rivals, id)
	}
}

// An event is what the callers know about an id.
type event struct {
	id          string
	holders     atomic.Int32
	handled     atomic.Bool // set before Done is called
	doneForSure atomic.Bool // set after Done has returned
}

func concurrency(c *checker) {
	events := make([]event, 5)
	for i := range events {
		events[i].id = freshID()
	}
	var worker atomic.Int32
	c.together(8, func() error {
		first := int(worker.Add(1))
		for i := range events {
			if err := c.work(&events[(first+i)%len(events)]); err != nil {
				return err
			}
		}
		return nil
	})
}

// work claims the event until it's done. It releases its first claim, and marks the
// event as done with its second.
func (c *checker) work(e *event) error {
	release := true
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll / 10) {
		sure := e.doneForSure.Load()
		token, found, err := c.try(e.id, long)
		switch {
		case err != nil:
			return err
		case found == done && !e.handled.Load():
			return fmt.Errorf("%q was done before Done was called", e.id)
		case found == done:
			return nil
		case sure:
			return fmt.Errorf("%q was %s after Done had returned, want done", e.id, found)
		case found == held:
			continue
		}
		if err := c.settle(e, token, release); err != nil {
			return err
		}
		release = false
	}
	return fmt.Errorf("%q was never free within %v, although every claim was released", e.id, patience)
}

// settle releases a claim or marks its event as done, after a while.
func (c *checker) settle(e *event, token int64, release bool) error {
	if n := e.holders.Add(1); n != 1 {
		return fmt.Errorf("%d callers held %q at once", n, e.id)
	}
	time.Sleep(poll / 10)
	e.holders.Add(-1)
	if release {
		if err := c.store.Release(c.ctx, e.id, token); err != nil {
			return fmt.Errorf("Release(%q, %d) returned an error: %w", e.id, token, err)
		}
		return nil
	}
	e.handled.Store(true)
	if err := c.store.Done(c.ctx, e.id, long); err != nil {
		return fmt.Errorf("Done(%q) returned an error: %w", e.id, err)
	}
	e.doneForSure.Store(true)
	return nil
}

// together runs f in n goroutines that start at once, waits for them, and fails with the
// error of one of them. They usually fail for the same reason.
func (c *checker) together(n int, f func() error) {
	c.t.Helper()
	errs := make(chan error, n)
	begin := make(chan struct{})
	for range n {
		go func() {
			<-begin
			errs <- f()
		}()
	}
	close(begin)
	var failed error
	for range n {
		failed = cmp.Or(failed, <-errs)
	}
	if failed != nil {
		c.fatalf("%v", failed)
	}
}
