package grants

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// What may fail.
const (
	listingGrants = iota
	askingGrants
	streaming
	callingEnded
	failing // how many there are
)

var names = [failing]string{"listing the active grants", "asking for a grant", "the live stream", "Options.Ended"}

// problems holds the last error of each, or nil.
type problems struct {
	mu   sync.Mutex
	errs [failing]error
	loud [failing]bool // logged as needing attention since it began
}

func (p *problems) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var named []error
	for what, err := range p.errs {
		if err != nil {
			named = append(named, fmt.Errorf("grants: %s: %w", names[what], err))
		}
	}
	return errors.Join(named...)
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
		c.opts.Log.Info("grants: works again: " + names[what])
	case err != nil && (before == nil || worse):
		attrs := []slog.Attr{slog.Any("error", err)}
		if p, ok := err.(*grantexhook.PanicError); ok {
			attrs = append(attrs, slog.String("stack", string(p.Stack)))
		}
		c.opts.Log.LogAttrs(context.Background(), level, "grants: "+names[what]+" fails", attrs...)
	}
}

// temporary reports whether an error may pass by itself.
func temporary(err error) bool {
	if e, ok := errors.AsType[*grantexapi.Error](err); ok {
		return e.StatusCode >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, e.StatusCode)
	}
	_, network := errors.AsType[net.Error](err)
	_, reconnects := errors.AsType[*grantexapi.Interrupted](err)
	return network || reconnects || errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded)
}
