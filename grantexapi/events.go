package grantexapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"
)

// An Interrupted is an error after which [Client.Events] continues by itself: the
// stream couldn't be opened or broke, the API rejected it for now, or an event was too
// large. Only Events makes one, and Err is never nil; the zero value isn't useful.
type Interrupted struct {
	Err   error         // the reason; an [*Error] if the API rejected the stream
	Wait  time.Duration // before Events reconnects; zero if it only skipped an event of more than 1 MiB
	Since time.Time     // when the loop was last caught up with the stream, or began; later events may be missing
}

// Error returns the reason and the wait on one line.
func (e *Interrupted) Error() string {
	switch rejected, ok := errors.AsType[*Error](e.Err); {
	case e.Wait == 0:
		return e.Err.Error()
	case ok && rejected.isTooManyStreams():
		return fmt.Sprintf("%v; reconnecting in %v, since a try within %v would only prolong this", e.Err, e.Wait.Round(100*time.Millisecond), slotExpiry)
	}
	return fmt.Sprintf("%v; reconnecting in %v", e.Err, e.Wait.Round(100*time.Millisecond))
}

// Unwrap returns Err.
func (e *Interrupted) Unwrap() error { return e.Err }

// Events returns the account's live stream of events of these types, or of all types
// if you pass no types. It connects when the loop begins, and reconnects by itself
// whenever the stream breaks. Grantex doesn't replay events on the stream, so those
// that happen during an interruption are missing. The loop gets one of these:
//
//   - nil, nil: Events has connected or reconnected, or has skipped an event. Earlier
//     events may be missing.
//   - A body, nil: an event, byte for byte as in a webhook. Pass it to
//     [grantexhook.Dispatcher.Dispatch]. You may keep it.
//   - nil, an [*Interrupted]: the connection failed or broke, or the response may be
//     better next time (status 408, 425, 429 or 5xx, or not an event stream). Events
//     waits for Interrupted.Wait and reconnects. If Wait is zero, Events skipped an
//     event of more than 1 MiB, and the stream continues.
//   - nil, any other error: a retry wouldn't help, and the sequence ends. An argument or
//     a field of the Client is invalid, or the API returned another 4xx or a redirect.
//
// The sequence also ends, without an error, when ctx ends.
//
// The waits grow from one second to 45, and are short again after a stream that lasted
// a minute. They're at least as long as the API asks for, up to an hour. If the account
// has too many streams (Grantex allows five), the wait is more than five minutes, since
// Grantex counts the stream of a killed process for that long. An earlier try would
// start that time over, so don't begin another loop before then. A stream that is
// silent for 90 seconds counts as broken.
//
// Events reads only while your loop waits for it, so the time that your loop takes
// never counts as silence. If you set HTTPClient, it must not retry, and it must allow
// a minute for the headers of a response. Its Timeout doesn't apply.
func (c *Client) Events(ctx context.Context, types ...string) iter.Seq2[[]byte, error] {
	path, err := streamPath(types)
	return func(yield func([]byte, error) bool) {
		if err != nil {
			yield(nil, err)
			return
		}
		s := subscription{Client: c, path: path, yield: yield, since: time.Now()}
		s.run(ctx)
	}
}

func streamPath(types []string) (string, error) {
	if slices.ContainsFunc(types, func(t string) bool { return t == "" || strings.ContainsAny(t, ", ") }) {
		return "", errors.New("grantexapi: an event type is empty or contains a comma or a space; pass each type as a separate argument")
	}
	if len(types) == 0 {
		return "/v1/events/stream", nil
	}
	return "/v1/events/stream?" + url.Values{"types": {strings.Join(types, ",")}}.Encode(), nil
}
