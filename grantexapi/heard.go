package grantexapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// ErrMaybeCreated means that [Client.Create] or [Client.Rotate] can't know whether it
// created an endpoint. Match it with [errors.Is]. If the endpoint exists, its secret
// is lost: find it with [Client.List], which returns the newest first, and
// [Client.Delete] it before you create another.
var ErrMaybeCreated = errors.New("grantexapi: the endpoint may have been created")

// A connection records whether a call asked for a connection and got one, in any of
// the attempts that a Transport makes.
type connection struct{ asked, got atomic.Bool }

func (c *connection) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { c.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { c.got.Store(true) },
	})
}

// none reports whether there was certainly no connection. A Transport that doesn't
// support tracing leaves that open.
func (c *connection) none() bool { return c.asked.Load() && !c.got.Load() }

// maybeHeard reports whether a failed call may have taken effect. It didn't if it was
// rejected, if it wasn't sent, or if there was no connection. A server may respond with
// 303 after doing what was asked (RFC 9110, section 15.4.4).
func maybeHeard(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode >= 500 || e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusSeeOther
	}
	e, ok := errors.AsType[*callError](err)
	return ok && !e.unheard
}

// maybeCreated adds ErrMaybeCreated to the error of a Create that may have taken effect.
func maybeCreated(err error) error {
	if !maybeHeard(err) {
		return err
	}
	return &callError{
		text:  err.Error() + "; the endpoint may have been created, and its secret is lost: find it with List, and Delete it before you create another",
		cause: errors.Join(err, ErrMaybeCreated),
	}
}
