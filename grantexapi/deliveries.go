package grantexapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// pageSize is the largest that the API allows.
const pageSize = 100

// The statuses of a [Delivery].
const (
	StatusPending   = "pending"   // not sent yet, or to be retried
	StatusDelivered = "delivered" // acknowledged with a 2xx
	StatusFailed    = "failed"    // given up after MaxAttempts
)

// A Delivery is Grantex's record of one event and one endpoint.
type Delivery struct {
	ID          string    `json:"id"`
	EndpointID  string    `json:"webhookId"`
	EventID     string    `json:"eventId"`
	EventType   string    `json:"eventType"`
	Status      string    `json:"status"`
	Attempts    int       `json:"attempts"`
	MaxAttempts int       `json:"maxAttempts"`
	URL         string    `json:"url"`
	LastError   string    `json:"lastError,omitempty"` // such as "HTTP 503", even if a later attempt was delivered; empty if no attempt failed
	CreatedAt   time.Time `json:"createdAt"`
	DeliveredAt time.Time `json:"deliveredAt,omitzero"` // zero if it wasn't delivered
}

// Deliveries returns the deliveries to an endpoint, newest first. status is one of the
// Status constants, or "" for all. Deliveries fetches each page of a hundred when the
// loop reaches it. Only ctx bounds a list that grows faster than it's read.
//
// An error is yielded with a zero Delivery. If your loop stops at the first error, you
// can skip the rest of this paragraph. If it continues after a temporary error,
// Deliveries fetches the same page again, so the error itself neither skips nor repeats
// a delivery. Deliveries doesn't wait before that. Your loop should, as the example
// does: for [Error].RetryAfter, or for a few seconds if RetryAfter is zero. Temporary
// errors are a broken connection, a response that isn't the expected JSON, and the
// statuses 408, 425, 429 and 5xx. Another is an empty page whose total counts
// deliveries that should be on it, which can happen when the list changes at that
// moment. After any other error the sequence ends, since the same request would only
// fail again: ctx has ended, an argument or a field of the Client is invalid, or the
// API returned another 4xx or a redirect.
//
// The list may change between two pages. New deliveries push others to the next page,
// where they appear a second time, so compare IDs. When the status of a delivery
// changes, it drops out of a list with the old status. Later deliveries move up, and
// those that move to a page you've already read are missed. An empty sequence means
// there were no deliveries.
func (c *Client) Deliveries(ctx context.Context, endpointID, status string) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		for page, seen := 1, 0; ; {
			p, err := c.deliveries(ctx, endpointID, status, page)
			if err != nil {
				last := ctx.Err() != nil || !mayPass(err) // if ctx ends in the loop's body, the next call fails with it
				if !yield(Delivery{}, err) || last {
					return
				}
				continue
			}
			for _, d := range p.Deliveries {
				if !yield(d, nil) {
					return
				}
			}
			page++
			seen += len(p.Deliveries)
			if len(p.Deliveries) == 0 || seen >= *p.Total {
				return
			}
		}
	}
}

func (c *Client) deliveries(ctx context.Context, endpointID, status string, page int) (deliveryPage, error) {
	path, err := endpointPath(endpointID)
	if err != nil {
		return deliveryPage{}, err
	}
	if !slices.Contains([]string{"", StatusPending, StatusDelivered, StatusFailed}, status) {
		return deliveryPage{}, fmt.Errorf(`grantexapi: unknown delivery status %q; use StatusPending, StatusDelivered, StatusFailed, or "" for all`, status)
	}
	query := url.Values{"page": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(pageSize)}}
	if status != "" { // the API rejects an empty one
		query.Set("status", status)
	}
	path += "/deliveries?" + query.Encode()
	p, err := call(ctx, c, http.MethodGet, path, nil, func(p deliveryPage) bool {
		return p.Page == page && p.complete() // a cache may ignore the query
	})
	if err == nil && p.short() {
		return deliveryPage{}, c.failed(fmt.Errorf("GET %s: the page is empty, but the API counts %d deliveries; try again", path, *p.Total))
	}
	return p, err
}

type deliveryPage struct {
	Deliveries []Delivery `json:"deliveries"`
	Total      *int       `json:"total"` // a missing total isn't 0, which would end the list
	Page       int        `json:"page"`
}

func (p deliveryPage) complete() bool {
	return p.Deliveries != nil && p.Total != nil && *p.Total >= 0 &&
		!slices.ContainsFunc(p.Deliveries, func(d Delivery) bool { return d.ID == "" })
}

// short reports whether a page is empty although its total says otherwise. If the list
// shrank between two pages, its total is smaller too, and the page isn't short.
func (p deliveryPage) short() bool {
	return len(p.Deliveries) == 0 && *p.Total > (p.Page-1)*pageSize
}
