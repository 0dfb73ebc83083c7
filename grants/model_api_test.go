package grants_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A weather is how often the API fails and how slow it is.
type weather struct {
	faults int           // of 100 responses
	slow   time.Duration // at most, for each half of a response
}

// An api is the HTTP side of a grantex, with faults. It is an http.RoundTripper that
// reports what one Cache asks for.
type api struct {
	*instance

	mu      sync.Mutex
	rnd     *rand.Rand
	weather weather
	open    map[string]int   // requests and unclosed bodies, by path
	asked   map[string]int   // requests so far, by path
	silence [2]time.Duration // when no question may come, because of a 429
	account bool             // a list has shown whose grants these are
}

// A plan is how one response goes.
type plan struct {
	fault         string        // "" if it is right
	before, after time.Duration // until the response is computed, and from then until it arrives
	stall         time.Duration // in the middle of the body
	cut           int           // of 100, how much of the body comes
	wait          int           // Retry-After
}

var (
	faultsOfAll    = []string{"500", "429", "429", "401", "html200", "html404", "transport", "hang", "hangBody", "cut", "cutClean", "empty"}
	faultsOfLists  = append(faultsOfAll, "null", "object", "json404", "foreign", "bare")
	faultsOfGrants = append(faultsOfAll, "route404", "unknownStatus", "otherID")
	faultsOfStream = []string{"500", "429", "tooMany", "html200", "hang", "transport"}
)

func pick[T any](rnd *rand.Rand, values ...T) T { return values[rnd.IntN(len(values))] }

func (a *api) plan(faults []string) plan {
	a.mu.Lock()
	defer a.mu.Unlock()
	slow := func() time.Duration {
		most := int64(a.weather.slow / time.Millisecond)
		if most == 0 || a.rnd.IntN(3) == 0 {
			return 0
		}
		if a.rnd.IntN(2) == 0 {
			most = most/10 + 1
		}
		return time.Duration(a.rnd.Int64N(most)+1) * time.Millisecond
	}
	p := plan{before: slow(), after: slow(), cut: a.rnd.IntN(100), wait: 1 + a.rnd.IntN(20)}
	if a.rnd.IntN(4) == 0 {
		p.stall = slow()
	}
	if a.rnd.IntN(20) == 0 && !a.resting.Load() {
		p.wait = 90
	}
	if a.rnd.IntN(100) < a.weather.faults {
		p.fault = pick(a.rnd, faults...)
	}
	if p.fault == "foreign" && !a.account {
		p.fault = "500" // whoever's list comes first is right
	}
	return p
}

func (a *api) setWeather(w weather) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.weather = w
}

// RoundTrip implements [http.RoundTripper].
func (a *api) RoundTrip(req *http.Request) (*http.Response, error) {
	path := req.URL.Path
	a.sent(req)
	resp, err := a.respond(req)
	if err != nil {
		a.closed(path)
		return nil, err
	}
	resp.Request, resp.Proto, resp.ProtoMajor, resp.ProtoMinor, resp.ContentLength = req, "HTTP/1.1", 1, 1, -1
	return resp, nil
}

func (a *api) respond(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/v1/events/stream" {
		return a.stream(req, a.plan(faultsOfStream))
	}
	if id, ok := strings.CutPrefix(req.URL.Path, "/v1/grants/"); ok {
		p := a.plan(faultsOfGrants)
		return a.answer(req, p, func() (int, string, func()) {
			status, body := a.grant(id)
			return status, body, nil
		})
	}
	asked, shift := a.now(), suspended.Load()
	return a.answer(req, a.plan(faultsOfLists), func() (int, string, func()) {
		rows, ids := a.list(a.chance(20))
		return 200, `{"grants":[` + strings.Join(rows, ",") + `]}`, func() {
			if shift == suspended.Load() && a.now()-asked < min(a.maxAge()/2, 20*time.Second) { // otherwise it may not count
				a.arrived(ids)
			}
		}
	})
}

// sent checks the rules for requests.
func (a *api) sent(req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := req.URL.Path
	a.open[path]++
	a.asked[path]++
	switch {
	case path == "/v1/events/stream":
		if a.opts.NoStream {
			a.violation("a stream in spite of NoStream")
		}
	case path == "/v1/grants":
		if req.URL.RawQuery != "status=active" {
			a.violation("unexpected query %q", req.URL.RawQuery)
		}
		if a.opts.Every < 0 && a.syncing.Load() == 0 {
			a.violation("a list in spite of a negative Every")
		}
	default:
		if n := a.questions(); n > 8 {
			a.violation("%d questions under way", n)
		}
		if now := a.now(); now > a.silence[0] && now < a.silence[1] {
			a.violation("a question for %s at %v, although a 429 asked for silence until %v", path, now, a.silence[1])
		}
	}
	if a.open[path] > 1 {
		a.violation("%d requests for %s under way", a.open[path], path)
	}
}

// questions counts the questions under way.
func (a *api) questions() (n int) {
	for path, open := range a.open {
		if strings.HasPrefix(path, "/v1/grants/") {
			n += open
		}
	}
	return n
}

func (a *api) closed(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[path]--
}

// underWay counts all requests under way.
func (a *api) underWay() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, open := range a.open {
		n += open
	}
	return n
}

// hanging counts the requests that end with Run alone, or when they're given up.
func (a *api) hanging() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for path, open := range a.open {
		if path != "/v1/events/stream" {
			n += open
		}
	}
	return n
}

// silent returns for how long no question may come.
func (a *api) silent() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(0, a.silence[1]-a.now())
}

var errNetwork = errors.New("the network failed")

// answer plays a response that ends. compute says what is right at one moment, and may
// return what to do when all of it has arrived.
func (a *api) answer(req *http.Request, p plan, compute func() (int, string, func())) (*http.Response, error) {
	ctx := req.Context()
	if !sleep(ctx, p.before) {
		return nil, ctx.Err()
	}
	a.interfere()
	status, text, arrived := compute()
	if *modelTrace {
		a.step("the response to %s is computed", req.URL.Path)
	}
	if !sleep(ctx, p.after) {
		return nil, ctx.Err()
	}
	b := &body{ctx: ctx, stall: p.stall, end: io.EOF, closed: func() { a.closed(req.URL.Path) }}
	header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	if p.fault == "" {
		a.arrive(b, arrived)
	}
	switch p.fault {
	case "hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case "transport":
		return nil, errNetwork
	case "hangBody", "cut", "cutClean":
		text = text[:min(len(text)*p.cut/100, len(text)-2)]
		b.hang, b.end = p.fault == "hangBody", io.EOF
		if p.fault == "cut" {
			b.end = io.ErrUnexpectedEOF
		}
	case "429":
		header.Set("Retry-After", strconv.Itoa(p.wait))
		b.atEnd = func() { a.hush(req.URL.Path, time.Duration(p.wait)*time.Second) }
		fallthrough
	default:
		status, text = misanswer(p.fault, status, text)
	}
	b.halves(text)
	if *modelTrace {
		a.step("a response to %s: %s %d %s", req.URL.Path, p.fault, status, text)
	}
	return &http.Response{StatusCode: status, Header: header, Body: b}, nil
}

// arrive interferes while the last bytes of a right response are on their way.
func (a *api) arrive(b *body, arrived func()) {
	b.atEnd = func() {
		a.interfere()
		if arrived != nil {
			arrived()
		}
	}
}

// arrived is called when a whole list has come in time.
func (a *api) arrived(ids []string) {
	a.mu.Lock()
	a.account = a.account || len(ids) > 0
	a.mu.Unlock()
	a.listed(ids)
}

// hush is called when a 429 has come.
func (a *api) hush(path string, wait time.Duration) {
	if path == "/v1/grants" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now() > a.silence[1] {
		a.silence[0] = a.now()
	}
	a.silence[1] = max(a.silence[1], a.now()+min(wait, time.Minute))
}

// misanswer turns a right response into a wrong one.
func misanswer(fault string, status int, text string) (int, string) {
	switch fault {
	case "500":
		return 500, `{"message":"Internal error","code":"INTERNAL_ERROR","requestId":"r"}`
	case "429":
		return 429, `{"message":"Plan rate limit exceeded","code":"RATE_LIMIT_EXCEEDED","requestId":"r"}`
	case "401":
		return 401, `{"message":"Invalid API key","code":"UNAUTHORIZED","requestId":"r"}`
	case "html200":
		return 200, `<html><title>Sign in</title></html>`
	case "html404":
		return 404, `<html><title>Not found</title></html>`
	case "route404":
		return 404, `{"message":"Route GET:/v1/grants not found","error":"Not Found","statusCode":404}`
	case "json404":
		return 404, `{"message":"Grant not found","code":"NOT_FOUND","requestId":"r"}`
	case "empty":
		return 200, `{}`
	case "null":
		return 200, `{"grants":null}`
	case "object":
		return 200, `{"grants":{}}`
	case "bare":
		return 200, `[]`
	case "foreign":
		return 200, `{"grants":[{"grantId":"grnt_foreign","developerId":"dev_2","scopes":[],"status":"active","issuedAt":"2000-01-01T00:00:00.000Z","expiresAt":"2100-01-01T00:00:00.000Z"}]}`
	case "unknownStatus":
		return status, strings.NewReplacer(`"status":"active"`, `"status":"new"`, `"status":"revoked"`, `"status":"new"`).Replace(text)
	case "otherID":
		return 200, `{"grantId":"grnt_other","developerId":"dev_1","scopes":[],"status":"` + "active" + `","issuedAt":"2000-01-01T00:00:00.000Z","expiresAt":"2100-01-01T00:00:00.000Z"}`
	}
	return status, text
}

// sleep waits for d, and reports whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A body comes in two halves.
type body struct {
	ctx    context.Context
	parts  []string
	stall  time.Duration // between the halves
	hang   bool          // instead of ending
	end    error
	atEnd  func() // before the last read returns
	closed func()
	once   sync.Once
}

func (b *body) halves(text string) {
	half := len(text) / 2
	b.parts = []string{text[:half], text[half:]}
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	for len(b.parts) > 0 {
		n := copy(p, b.parts[0])
		b.parts[0] = b.parts[0][n:]
		if b.parts[0] == "" {
			b.parts = b.parts[1:]
			if len(b.parts) == 1 && !sleep(b.ctx, b.stall) {
				return n, b.ctx.Err()
			}
			if len(b.parts) == 0 && b.atEnd != nil {
				b.atEnd()
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	if b.hang {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	return 0, b.end
}

// Close implements [io.Closer].
func (b *body) Close() error {
	b.once.Do(b.closed)
	return nil
}

// A message is what a stream sends at once.
type message struct {
	text   string
	named  []string // the grants that it names as revoked
	others bool     // other grants may have ended
}

// A stream is one connection to the event stream. It breaks off when it is cut, and
// doesn't even send keepalives when it is silent.
type stream struct {
	ctx    context.Context
	sent   chan message
	cut    <-chan time.Time
	silent bool
	rest   message
	taken  func(message) // has been read
	closed func()
	once   sync.Once
}

func (a *api) stream(req *http.Request, p plan) (*http.Response, error) {
	ctx := req.Context()
	if p.fault == "hang" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !sleep(ctx, p.before) {
		return nil, ctx.Err()
	}
	header := http.Header{"Content-Type": {"text/event-stream"}}
	if p.fault != "" {
		header.Set("Content-Type", "application/json")
		return a.refuse(req, p, header)
	}
	s := a.newStream(ctx, p)
	if !sleep(ctx, p.after) {
		s.Close()
		return nil, ctx.Err()
	}
	s.closed = func() { a.leave(s); a.closed(req.URL.Path) }
	return &http.Response{StatusCode: 200, Header: header, Body: s}, nil
}

func (a *api) refuse(req *http.Request, p plan, header http.Header) (*http.Response, error) {
	if p.fault == "transport" {
		return nil, errNetwork
	}
	status, text := misanswer(p.fault, 0, "")
	if p.fault == "tooMany" {
		status, text = 429, `{"message":"Too many connections","code":"TOO_MANY_CONNECTIONS","requestId":"r"}`
	}
	b := &body{ctx: req.Context(), end: io.EOF, closed: func() { a.closed(req.URL.Path) }}
	b.halves(text)
	return &http.Response{StatusCode: status, Header: header, Body: b}, nil
}

func (a *api) newStream(ctx context.Context, p plan) *stream {
	s := &stream{ctx: ctx, sent: make(chan message, 1000), rest: message{text: keepalive}, taken: a.heard}
	s.closed = func() { a.leave(s) }
	a.mu.Lock()
	if a.rnd.IntN(100) < a.weather.faults {
		s.cut = time.After(time.Duration(a.rnd.IntN(30_000)) * time.Millisecond)
	} else if a.rnd.IntN(100) < a.weather.faults {
		s.silent = true
	}
	a.mu.Unlock()
	a.grantex.mu.Lock()
	defer a.grantex.mu.Unlock()
	a.grantex.streams = append(a.grantex.streams, s)
	return s
}

func (a *api) leave(s *stream) {
	a.grantex.mu.Lock()
	defer a.grantex.mu.Unlock()
	a.grantex.streams = slices.DeleteFunc(a.grantex.streams, func(other *stream) bool { return other == s })
}

func (s *stream) send(m message) {
	if s.silent {
		return
	}
	select {
	case s.sent <- m:
	default:
	}
}

const keepalive = ": keepalive\n\n"

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	if s.rest.text == "" {
		rest, err := s.next()
		if err != nil {
			return 0, err
		}
		s.rest = rest
	}
	n := copy(p, s.rest.text)
	s.rest.text = s.rest.text[n:]
	if s.rest.text == "" {
		s.taken(s.rest)
	}
	return n, nil
}

func (s *stream) next() (message, error) {
	idle := time.NewTimer(30 * time.Second)
	defer idle.Stop()
	if s.silent {
		idle.Stop()
	}
	select {
	case m := <-s.sent:
		return m, nil
	case <-idle.C:
		return message{text: keepalive}, nil
	case <-s.cut:
		return message{}, io.ErrUnexpectedEOF
	case <-s.ctx.Done():
		return message{}, s.ctx.Err()
	}
}

// Close implements [io.Closer].
func (s *stream) Close() error {
	s.once.Do(s.closed)
	return nil
}
