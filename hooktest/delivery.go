package hooktest

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"grantex.dev/grantexhook/internal/sender"
)

const (
	statusPending   = "pending"
	statusDelivered = "delivered"
	statusFailed    = "failed"

	defaultPageSize = 20
	maxPageSize     = 100
	maxPage         = 1_000_000
)

// A delivery has the fields of the API's responses, in their order.
type delivery struct {
	ID          string     `json:"id"`
	WebhookID   string     `json:"webhookId"`
	EventID     string     `json:"eventId"`
	EventType   string     `json:"eventType"`
	Status      string     `json:"status"`
	Attempts    int        `json:"attempts"`
	MaxAttempts int        `json:"maxAttempts"`
	URL         string     `json:"url"`
	LastError   *string    `json:"lastError"`
	CreatedAt   time.Time  `json:"createdAt"`
	DeliveredAt *time.Time `json:"deliveredAt"`
}

// deliver delivers an event to one endpoint in a goroutine.
func (a *API) deliver(e *endpoint, eventType string, body []byte, wait time.Duration) {
	now := time.Now()
	d := &delivery{
		ID: sender.NewID("whd_", now), WebhookID: e.ID, EventID: Raw(body).envelope().ID, EventType: eventType,
		Status: statusPending, MaxAttempts: cmp.Or(e.sender.Attempts, sender.MaxAttempts), URL: e.URL, CreatedAt: now,
	}
	a.mu.Lock()
	e.deliveries = append(e.deliveries, d)
	a.mu.Unlock()
	a.start(func() {
		if sleep(e.ctx, wait) {
			a.attempt(e, d, body)
		}
	})
}

func (a *API) attempt(e *endpoint, d *delivery, body []byte) {
	parcel := e.sender.pack(e.target, body)
	parcel.Dial = e.dial
	for at := range parcel.Attempts(e.ctx) {
		if e.ctx.Err() != nil {
			return
		}
		if at.Crashes() {
			slog.Error("hooktest: the response crashes the real sender's process; respond with 200 and a short body", "status", at.Status, "endpoint", e.ID)
		}
		a.mu.Lock()
		d.record(at)
		over := d.Attempts == d.MaxAttempts
		a.mu.Unlock()
		if over {
			return
		}
	}
}

// record updates the delivery after an attempt. The last error stays after a success.
func (d *delivery) record(at sender.Attempt) {
	d.Attempts++
	if at.Delivered() {
		now := time.Now()
		d.Status, d.DeliveredAt = statusDelivered, &now
		return
	}
	text := fmt.Sprintf("HTTP %d", at.Status)
	if at.Err != nil {
		text = at.Err.Error()
	}
	d.LastError = &text
	if d.Attempts == d.MaxAttempts {
		d.Status = statusFailed
	}
}

func (a *API) listDeliveries(r *http.Request) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.endpoint(r.PathValue("id"))
	if e == nil {
		return errNotFound("Webhook not found")
	}
	q := r.URL.Query()
	if status := q["status"]; len(status) > 1 || len(status) == 1 && !slices.Contains([]string{statusPending, statusDelivered, statusFailed}, status[0]) {
		return errBadRequest("status must be one of: pending, delivered, failed")
	}
	page, ok1 := number(q, "page", 1)
	size, ok2 := number(q, "pageSize", defaultPageSize)
	if !ok1 || !ok2 {
		return errBadRequest("page and pageSize must be positive integers")
	}
	size = min(size, maxPageSize)
	var all []delivery
	for _, d := range slices.Backward(e.deliveries) {
		if matches(q, "status", d.Status) {
			all = append(all, *d)
		}
	}
	from := min((page-1)*size, len(all))
	return http.StatusOK, struct {
		Deliveries []delivery `json:"deliveries"`
		Total      int        `json:"total"`
		Page       int        `json:"page"`
		PageSize   int        `json:"pageSize"`
	}{append([]delivery{}, all[from:min(from+size, len(all))]...), len(all), page, size}
}

// number parses a parameter as JavaScript would, so 1e2 is a hundred.
func number(q url.Values, name string, missing int) (int, bool) {
	if !q.Has(name) {
		return missing, true
	}
	f, err := strconv.ParseFloat(q.Get(name), 64)
	return int(f), err == nil && f == math.Trunc(f) && f >= 1 && f <= maxPage
}
