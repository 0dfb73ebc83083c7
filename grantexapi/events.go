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

// An Interrupted is an error after which [Client.Events] goes on by itself: the stream
// couldn't be opened or broke, the API refused it for now, or an event was too large.
type Interrupted struct {
	Err   error         // the reason; an [*Error] if the API refused the stream
	Wait  time.Duration // before Events connects again; zero if it only skipped an event of more than 1 MiB
	Since time.Time     // when the loop had last read all that had come, or began; events after that may be missing
}

// Error returns the reason and the wait on one line.
func (e *Interrupted) Error() string {
	switch refused, ok := errors.AsType[*Error](e.Err); {
	case e.Wait == 0:
		return e.Err.Error()
	case ok && refused.isTooManyStreams():
		return fmt.Sprintf("%v; connecting again in %v, since a try within %v would only prolong this", e.Err, e.Wait.Round(100*time.Millisecond), slotExpiry)
	}
	return fmt.Sprintf("%v; connecting again in %v", e.Err, e.Wait.Round(100*time.Millisecond))
}

// Unwrap returns Err.
func (e *Interrupted) Unwrap() error { return e.Err }

// Events returns the account's live stream of events of these types, or of all types
// if you pass no types. It connects when the loop begins, and again by itself whenever
// the stream breaks. Grantex doesn't repeat events on the stream, so those that happen
// during an interruption are missing. The loop gets one of these:
//
//   - nil, nil: Events is connected, for the first time or again, or has skipped an
//     event. Earlier events may be missing.
//   - A body, nil: an event, byte for byte as a webhook has it. Pass it to
//     [grantexhook.Dispatcher.Dispatch]. You may keep it.
//   - nil, an [*Interrupted]: the connection failed or broke, or the response may be
//     better next time (status 408, 425, 429 or 5xx, or not an event stream). Events
//     waits for Interrupted.Wait and connects again. If Wait is zero, Events skipped an
//     event of more than 1 MiB, and the stream goes on.
//   - nil, any other error: a retry wouldn't help, and the sequence ends. An argument or
//     a field of the Client is invalid, or the API returned another 4xx or a redirect.
//
// The sequence also ends, without an error, when ctx ends.
//
// The waits grow from one second to 45, and are short again after a stream that lasted
// a minute. They're at least as long as the API asks for, up to an hour. If the account
// has too many streams (Grantex allows five), the wait is more than five minutes.
// Grantex counts the stream of a killed process for that long. An earlier try would
// prolong it, so don't begin another loop before then. A stream that sends nothing for 90 seconds counts as broken.
//
// Events reads only while your loop waits for it. The time that your loop takes never
// counts as silence. If you set HTTPClient, it must not retry, and it must wait a minute
// for the headers of a response. Its Timeout doesn't apply.
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
		return "", errors.New("grantexapi: a type of event is empty or has a comma or a space; pass each type as a separate argument")
	}
	if len(types) == 0 {
		return "/v1/events/stream", nil
	}
	return "/v1/events/stream?" + url.Values{"types": {strings.Join(types, ",")}}.Encode(), nil
}
