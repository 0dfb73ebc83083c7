// Package grantexapi is a client for the Grantex API. It manages an account's webhook
// endpoints, lists their deliveries, looks up grants, and reads the live stream of
// events.
//
//	c := &grantexapi.Client{APIKey: grantexhook.Secret(os.Getenv("GRANTEX_API_KEY"))}
//	endpoint, err := c.Create(ctx, "https://example.com/webhooks/grantex", d.Types()...)
//
// A service should receive events as webhooks, since Grantex retries those.
// [Client.Events] is faster and doesn't need a public URL, but it can miss events.
//
// # Errors
//
// If the API rejects a call, the error is an [*Error] with the HTTP status. If an
// argument or a field of the Client is malformed, the call fails before anything is
// sent. Only the API knows whether a URL, an event type or an ID is valid. A redirect
// is an error, and so is a response of more than 1 MiB. [Client.Grants] and
// [Client.Events] read longer responses, in parts that have the same limit.
//
// The text of an error never contains the APIKey. Use [errors.Is] and [errors.As] to
// find the cause, for example [context.DeadlineExceeded]. Don't log a cause that you
// find this way: an error from net/http may quote the response, which may echo the
// APIKey. For the same reason, [errors.Unwrap] doesn't return the cause.
//
// # Retries
//
// Create and Rotate never retry: a second request would create a second endpoint.
// For the other calls, net/http may resend a request on a new connection if an idle
// one was lost. [Client.Events] reconnects by itself. With [Client.Deliveries], your
// loop can continue after a temporary error.
package grantexapi
