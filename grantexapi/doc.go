// Package grantexapi is a client for the Grantex API. It manages the webhook
// endpoints of an account, reports what became of their deliveries, and reads the
// live stream of events.
//
//	c := &grantexapi.Client{APIKey: grantexhook.Secret(os.Getenv("GRANTEX_API_KEY"))}
//	endpoint, err := c.Create(ctx, "https://example.com/webhooks/grantex", d.Types()...)
//
// Webhooks are how a service should receive events: Grantex retries them.
// [Client.Events] is faster and needs no public URL, but it can miss events.
//
// # Errors
//
// If the API refuses a call, the error is an [*Error] with the HTTP status. If a
// field of the Client or an argument can't be right, the call fails before anything
// is sent. Only the API knows whether a URL, a type of event or an ID is right. A
// redirect is an error, and so is a response of more than 1 MiB.
//
// The text of an error never contains the APIKey. Use [errors.Is] and [errors.As] to
// find the cause, for example [context.DeadlineExceeded]. Don't log a cause that you
// find this way: an error of net/http may quote the response, and an echo of the APIKey
// with it. [errors.Unwrap] doesn't return it for the same reason.
//
// # Retries
//
// Create and Rotate never retry: a second request would create a second endpoint.
// For the other calls, net/http may repeat a request on a new connection if the one
// it kept was lost. [Client.Events] connects again by itself, and with
// [Client.Deliveries] your loop can go on after an error that may pass.
package grantexapi
