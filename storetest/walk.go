package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A model is the state that an id should be in.
type model struct {
	id    string
	state state
	token int64
}

func randomWalk(c *checker) {
	rnd := rand.New(rand.NewPCG(1, 2)) // the same walks every time, to make failures repeatable
	for range 25 {
		c.walk(rnd)
	}
}

// walk makes random calls for two ids, with any of their tokens.
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
				c.fatalf("Claim found %q %s, want %s, after\n\t%s", m.id, found, m.state, strings.Join(steps, "\n\t"))
			}
			if found == free {
				m.state, m.token = held, token
				tokens = append(tokens, token)
			}
		}
	}
}
