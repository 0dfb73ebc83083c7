package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
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

// wantOneWinner lets rivals claim id until one of them has got it, but not
// beyond the end. Each of them tries once more after that, or at least once.
func (c *checker) wantOneWinner(id string, end time.Time) {
	c.t.Helper()
	var wins atomic.Int32
	together(rivals, func() {
		for again := true; again; time.Sleep(poll / 10) {
			again = wins.Load() == 0 && time.Now().Before(end)
			switch _, found, err := c.try(id, long); {
			case err != nil:
				c.failf("%v", err)
				return
			case found == done:
				c.failf("Claim found %q to be done", id)
				return
			case found == free:
				wins.Add(1)
			}
		}
	})
	if n := wins.Load(); n != 1 {
		c.fatalf("%d of %d that claimed %q at once got it, want 1", n, rivals, id)
	}
}

// An event is what concurrency knows of an id.
type event struct {
	id          string
	holders     atomic.Int32
	handled     atomic.Bool // before Done is called
	doneForSure atomic.Bool // after Done has returned
}

func concurrency(c *checker) {
	events := make([]event, 5)
	for i := range events {
		events[i].id = freshID()
	}
	var worker atomic.Int32
	together(8, func() {
		first := int(worker.Add(1))
		for i := range events {
			if err := c.work(&events[(first+i)%len(events)]); err != nil {
				c.failf("%v", err)
			}
		}
	})
}

// work claims the event until it is done. It releases it the first time and
// marks it as done the second.
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
			return fmt.Errorf("%q is %s, want done: Done has returned", e.id, found)
		case found == held:
			continue
		}
		if err := c.settle(e, token, release); err != nil {
			return err
		}
		release = false
	}
	return fmt.Errorf("%q was never free for %v, although every claim of it is released", e.id, patience)
}

// settle ends a claim after a while.
func (c *checker) settle(e *event, token int64, release bool) error {
	if n := e.holders.Add(1); n != 1 {
		return fmt.Errorf("%d held %q at once", n, e.id)
	}
	time.Sleep(poll / 10)
	e.holders.Add(-1)
	if release {
		return c.store.Release(c.ctx, e.id, token)
	}
	e.handled.Store(true)
	err := c.store.Done(c.ctx, e.id, long)
	e.doneForSure.Store(true)
	return err
}

// A model is what an id should be, for the random walk.
type model struct {
	id    string
	state state
	token int64
}

func randomWalk(c *checker) {
	rnd := rand.New(rand.NewPCG(1, 2)) // the same walks every time, so that a failure can be seen again
	for range 25 {
		c.walk(rnd)
	}
}

// walk takes some steps with two ids, and with any token of theirs.
func (c *checker) walk(rnd *rand.Rand) {
	ids := []*model{{freshID(), free, 0}, {freshID(), free, 0}}
	tokens := []int64{0}
	var steps []string
	for range 20 {
		m := ids[rnd.IntN(len(ids))]
		switch rnd.IntN(8) {
		case 0:
			steps = append(steps, fmt.Sprintf("Done(%q)", m.id))
			c.done(m.id, long)
			m.state = done
		case 1, 2, 3:
			token := tokens[rnd.IntN(len(tokens))]
			steps = append(steps, fmt.Sprintf("Release(%q, %d)", m.id, token))
			c.release(m.id, token)
			if m.state == held && m.token == token {
				m.state = free
			}
		default:
			steps = append(steps, fmt.Sprintf("Claim(%q)", m.id))
			token, found := c.claim(m.id, long)
			if found != m.state {
				c.fatalf("Claim found %q to be %s, want %s, after\n\t%s", m.id, found, m.state, strings.Join(steps, "\n\t"))
			}
			if found == free {
				m.state, m.token = held, token
				tokens = append(tokens, token)
			}
		}
	}
}
