package grantexapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"time"
)

// maxElement is how large an element of a list may be, since the decoder keeps a whole
// one in memory.
const maxElement = maxBody

var (
	errIdle     = fmt.Errorf("the API sent nothing for %v: %w", callTimeout, context.DeadlineExceeded)
	errNoList   = errors.New("unexpected response (not the expected JSON, or cut off); is Client.BaseURL right?")
	errTooLarge = fmt.Errorf("the response has an element of more than %d bytes; is Client.BaseURL right?", maxElement)
	errStopped  = errors.New("the loop has ended")
)

// list requests grants and yields each as it arrives, decoded into a T. A grant that
// isn't complete is an error.
func list[T any](ctx context.Context, c *Client, q GrantQuery, complete func(T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		err := c.readGrants(ctx, q, func(body io.Reader) error {
			return decodeList(body, func(v T) error {
				if !complete(v) {
					return errNoList
				}
				if stopped = !yield(v, nil); stopped {
					return errStopped
				}
				return ctx.Err()
			})
		})
		if err != nil && !stopped {
			var zero T
			yield(zero, err)
		}
	}
}

// readGrants requests grants and calls decode with the body of a 2xx response.
func (c *Client) readGrants(ctx context.Context, q GrantQuery, decode func(io.Reader) error) error {
	path, err := q.path()
	if err != nil {
		return err
	}
	h, pause := c.http(), time.Duration(math.MaxInt64)
	if c.HTTPClient == nil {
		h.Timeout, pause = 0, callTimeout
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	dog := newWatchdog(pause, func() { end(errIdle) })
	defer dog.timer.Stop()
	err = c.readList(ctx, h, path, func(body io.Reader) error {
		dog.Reader = body
		return decode(dog)
	})
	if err != nil && context.Cause(ctx) == errIdle {
		return c.failed(fmt.Errorf("GET %s: %w", path, errIdle))
	}
	return err
}

func (c *Client) readList(ctx context.Context, h *http.Client, path string, decode func(io.Reader) error) error {
	req, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	resp, err := c.send(h, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode > 299 {
		return c.rejected(resp)
	}
	if err := decode(resp.Body); err != nil {
		return c.failed(fmt.Errorf("GET %s: %w", path, err))
	}
	return nil
}

// decodeList calls take with each element of a list of grants, until take returns an
// error.
func decodeList[T any](body io.Reader, take func(T) error) error {
	r := &elementReader{Reader: body, left: maxElement}
	d := listDecoder{json.NewDecoder(r), r}
	var v, zero T // v escapes, so there's only one
	return d.document(func() error {
		v = zero
		if err := d.value(&v); err != nil {
			return err
		}
		return take(v)
	})
}

// A listDecoder decodes {"grants": […]} without keeping more than one element.
type listDecoder struct {
	dec *json.Decoder
	r   *elementReader
}

// document calls element in place of each element of the array. It ignores other
// members, but everything up to the end must be JSON.
func (d listDecoder) document(element func() error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	found := false
	for d.more() {
		list, err := d.member()
		switch {
		case err != nil:
			return err
		case !list:
			continue
		case found:
			return errNoList
		}
		found = true
		if err := d.array(element); err != nil {
			return err
		}
	}
	if err := d.delim('}'); err != nil {
		return err
	}
	if !found {
		return errNoList
	}
	if _, err := d.dec.Token(); err != io.EOF || d.r.err != io.EOF {
		return cmp.Or(d.because(err), errNoList)
	}
	return nil
}

// member reads the name of a member, and its value unless that's the list.
func (d listDecoder) member() (list bool, err error) {
	name, err := d.dec.Token()
	if err != nil {
		return false, d.because(err)
	}
	if name == "grants" {
		return true, nil
	}
	return false, d.value(new(json.RawMessage))
}

func (d listDecoder) array(element func() error) error {
	if err := d.delim('['); err != nil {
		return err
	}
	for d.more() {
		if err := element(); err != nil {
			return err
		}
	}
	return d.delim(']')
}

// more reports whether an element or a member follows, which may be as long as any.
func (d listDecoder) more() bool {
	d.r.left = maxElement
	return d.dec.More()
}

func (d listDecoder) delim(want json.Delim) error {
	got, err := d.dec.Token()
	if err == nil && got != want {
		return errNoList
	}
	return d.because(err)
}

func (d listDecoder) value(v any) error { return d.because(d.dec.Decode(v)) }

// because replaces an error of the Decoder, which would quote the response.
func (d listDecoder) because(err error) error {
	switch {
	case err == nil:
		return nil
	case d.r.err != nil && d.r.err != io.EOF:
		return d.r.err
	}
	return errNoList
}

// An elementReader fails when an element has more than maxElement bytes, since the
// Decoder would keep all of them. An error is final, although the Decoder reads on
// after one.
type elementReader struct {
	io.Reader
	left int
	err  error
}

// Read implements [io.Reader].
func (r *elementReader) Read(p []byte) (n int, err error) {
	switch {
	case r.err != nil:
		return 0, r.err
	case r.left == 0:
		r.err = errTooLarge
		return 0, r.err
	}
	n, r.err = r.Reader.Read(p[:min(len(p), r.left)])
	r.left -= n
	if r.err != nil && r.err != io.EOF {
		r.err = fmt.Errorf("reading the response: %w", r.err)
	}
	return n, r.err
}
