package hooktest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// An API is a Grantex API in memory with one account. It's an [http.Handler] that serves
// grants, webhook endpoints and their deliveries, the event stream, and the key set that
// verifies its tokens. It behaves as the real service was measured to, except that it
// has no rate limit, delivers webhooks right away, and accepts every API key. So anyone
// who can reach it can revoke its grants; use it only for tests and demos.
//
// Its methods create grants and end them in each way that Grantex knows. Events go to
// the stream and to the endpoints, as a [Sender] delivers them. [API.Intercept] and
// [API.Schedule] make the API misbehave.
//
// It works inside a [testing/synctest] bubble if NewAPI is called there and requests are
// sent by [API.Client]. Elsewhere you can also serve it over the network:
//
//	api := hooktest.NewAPI()
//	defer api.Close()
//	server := httptest.NewServer(api)
//
// Use [NewAPI] to create one. All methods are safe for concurrent use. Those that change
// grants or endpoints panic if the call makes no sense, for example with an ID that this
// API has never had.
type API struct {
	// DeveloperID is the account's ID, in the grants and in the claim "dev" of the
	// tokens. NewAPI chooses one. Change it before you use the API.
	DeveloperID string

	mux       *http.ServeMux
	intercept atomic.Pointer[interceptor]
	schedule  atomic.Pointer[scheduler]

	// ctx ends at the beginning of Close, which waits for work and then stops servers.
	ctx     context.Context
	end     context.CancelFunc
	work    sync.WaitGroup
	client  http.Client
	closing sync.Once

	mu        sync.Mutex // guards what follows
	closed    bool
	servers   []*memoryServer
	grants    map[string]*grant
	issued    []*grant    // oldest first
	endpoints []*endpoint // oldest first
	streams   map[*stream]bool
	leaked    int       // streams that a crash left in Grantex's counter
	forgotten time.Time // when Grantex forgets them
}

type interceptor = func(w http.ResponseWriter, r *http.Request, next http.Handler)

// NewAPI returns an API without grants and endpoints. Call its Close when you're done.
func NewAPI() *API {
	a := &API{
		DeveloperID: sender.NewID("dev_", time.Now()),
		mux:         http.NewServeMux(),
		grants:      map[string]*grant{},
		streams:     map[*stream]bool{},
	}
	a.ctx, a.end = context.WithCancel(context.Background())
	server := sync.OnceValue(func() *memoryServer { return a.serve(a) })
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return server().dial(ctx, network, addr)
	}
	a.client.Transport = &http.Transport{DialContext: dial, DialTLSContext: dial}
	a.route("GET /v1/grants", a.listGrants)
	a.route("GET /v1/grants/{id}", a.getGrant)
	a.route("DELETE /v1/grants/{id}", a.deleteGrant)
	a.route("POST /v1/tokens/verify", a.verifyToken)
	a.route("POST /v1/webhooks", a.createEndpoint)
	a.route("GET /v1/webhooks", a.listEndpoints)
	a.route("DELETE /v1/webhooks/{id}", a.deleteEndpoint)
	a.route("DELETE /v1/webhooks/{$}", a.deleteEndpoint)
	a.route("GET /v1/webhooks/{id}/deliveries", a.listDeliveries)
	a.mux.HandleFunc("GET /v1/events/stream", a.serveStream)
	a.mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, http.StatusOK, keySet())
	})
	a.mux.HandleFunc("/", unknownRoute)
	return a
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := a.intercept.Load(); f != nil {
		(*f)(w, r, a.mux)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// Intercept makes f handle all requests from now on, and nil removes it. It may respond
// itself, pass the request on to next, which is the API, or do so late or in part:
//
//	w.WriteHeader(http.StatusServiceUnavailable) // fail
//	time.Sleep(time.Minute)                      // be slow, then call next
//	panic(http.ErrAbortHandler)                  // break the connection, after some bytes or before
//	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
//	defer cancel()
//	next.ServeHTTP(w, r.WithContext(ctx))        // cut a stream after a minute
//
// f is called concurrently. Close waits for it if the request came from [API.Client].
func (a *API) Intercept(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	if f == nil {
		a.intercept.Store(nil)
		return
	}
	a.intercept.Store(&f)
}

// Client returns an HTTP client that connects to the API in memory, whatever the URL
// is. With https it does so without TLS. A grantexapi.Client needs no other setting:
//
//	c := &grantexapi.Client{APIKey: "any", HTTPClient: api.Client()}
//
// Inside a bubble, the API must have been created in the same bubble.
func (a *API) Client() *http.Client { return &a.client }

// serve starts a server that Close stops, unless Close has been called.
func (a *API) serve(h http.Handler) *memoryServer {
	server := serve(h, nil)
	a.mu.Lock()
	closed := a.closed
	a.servers = append(a.servers, server)
	a.mu.Unlock()
	if closed {
		server.stop()
	}
	return server
}

// Close ends all streams and deliveries and waits for the API's goroutines, including
// those of endpoints' handlers. After that, Client can't connect. Close must not be
// called by a handler that it waits for.
func (a *API) Close() {
	a.closing.Do(func() {
		a.mu.Lock()
		a.closed = true
		servers := a.servers
		a.mu.Unlock()
		a.end()
		a.work.Wait()
		for _, s := range servers {
			s.stop()
		}
		a.client.CloseIdleConnections()
	})
}

// start runs f in a goroutine that Close waits for.
func (a *API) start(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.work.Go(f)
	}
}

// route adds a route that needs an API key. The handler returns the status and what to
// encode as the body.
func (a *API) route(pattern string, h func(*http.Request) (int, any)) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !hasKey(r) {
			respond(w, http.StatusUnauthorized, errNoKey())
			return
		}
		status, body := h(r)
		respond(w, status, body)
	})
}

// bearer is the syntax of RFC 6750, section 2.1.
var bearer = regexp.MustCompile(`^Bearer [A-Za-z0-9._~+/-]+=*$`)

func hasKey(r *http.Request) bool { return bearer.MatchString(r.Header.Get("Authorization")) }

// An apiError is the body of a rejection.
type apiError struct {
	Message   string `json:"message"`
	Code      string `json:"code"`
	RequestID string `json:"requestId"`
}

func newAPIError(code, format string, args ...any) apiError {
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, section 5.4
	return apiError{
		Message: fmt.Sprintf(format, args...), Code: code,
		RequestID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
	}
}

func errNoKey() apiError {
	return newAPIError("UNAUTHORIZED", "Missing or invalid Authorization header")
}

func errNotFound(what string) (int, any) {
	return http.StatusNotFound, newAPIError("NOT_FOUND", "%s", what)
}

func errBadRequest(format string, args ...any) (int, any) {
	return http.StatusBadRequest, newAPIError("BAD_REQUEST", format, args...)
}

func unknownRoute(w http.ResponseWriter, r *http.Request) {
	respond(w, http.StatusNotFound, struct {
		Message    string `json:"message"`
		Error      string `json:"error"`
		StatusCode int    `json:"statusCode"`
	}{"Route " + r.Method + ":" + r.URL.RequestURI() + " not found", "Not Found", http.StatusNotFound})
}

// respond writes a body as JSON, or none if it's nil. Bytes are JSON already.
func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	if body == nil {
		w.WriteHeader(status)
		return
	}
	text, ok := body.([]byte)
	if !ok {
		text = mustEncode(body)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write(text)
}

func mustEncode(v any) []byte {
	text, err := sender.Encode(v)
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	return text
}

// mustBody returns the body of an event.
func mustBody(p grantexhook.Payload) []byte {
	body, err := encode(p)
	if err != nil {
		panic("hooktest: " + err.Error())
	}
	return body
}
