package integration

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
	"grantex.dev/grantexhook/sqlstore"
)

const (
	// retryGap is the time between two attempts at an event. Grantex waits 60 seconds
	// or more. All that matters to a service is that it's longer than the lease, and
	// so is this.
	retryGap = replicaLease + 200*time.Millisecond

	// eventsAtOnce is how many events are in flight at a time, each to all replicas.
	eventsAtOnce = 16

	// patience is for a process that starts or ends on a busy machine.
	patience = 30 * time.Second

	// clockSlack is for a clock that is adjusted a little during a lease.
	clockSlack = 10 * time.Millisecond
)

// What is counted if there's no response.
const (
	killedBefore    = "none, killed before"
	killedMeanwhile = "none, killed meanwhile"
)

// The test checks that three processes can share the work. Each event comes to all of
// them at once, some handlers fail, and one process is killed while handlers run in it.
func TestReplicas(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	inTx := []string{stuckBefore, stuckAfter, stuckBefore, stuckAfter, stuckInside}
	alone := []string{stuckBefore, stuckAfter, stuckBefore, stuckAfter, stuckAfter}
	tests := []struct {
		name   string
		shared func(*testing.T) sharedSettings
		stuck  []string
		events int
	}{
		{"PostgreSQL, with Tx", func(t *testing.T) sharedSettings { return sharedPostgres(t, true) }, inTx, 1000},
		{"PostgreSQL", func(t *testing.T) sharedSettings { return sharedPostgres(t, false) }, alone, 1000},
		{"Redis", sharedRedis, alone, 1000},
		{"SQLite, with Tx", sharedSQLite, inTx, 300},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			settings := test.shared(t)
			s := startService(t, replicaSettings{
				sharedSettings: settings,
				Tried:          t.TempDir(),
				StuckFrom:      int64(test.events / 8), // about as many in each of three: in the middle
				Stuck:          test.stuck,
			})
			stuck := s.deliver(s.parcels(test.events), len(test.stuck))
			s.stop()

			deeds := s.deeds()
			require.Len(t, deeds, test.events)
			repeats := requireOnce(t, deeds, s.victim().name, settings.Tx)
			requireStuck(t, deeds, stuck, s.victim().name, settings.Tx)
			for _, answer := range []string{"200 handled", "200 duplicate", "409 in_flight", "500 failed", "500 panicked", "503 timed_out"} {
				require.NotZero(t, s.answers[answer], "%s never came: %v", answer, s.answers)
			}
			require.GreaterOrEqual(t, s.answers[killedMeanwhile], len(stuck))
			t.Logf("%d events, of which %d were stuck in the process that was killed: %d handled again; responses %v; %v",
				test.events, len(stuck), repeats, s.answers, time.Since(begin).Round(100*time.Millisecond))
		})
	}
}

const createEffects = "CREATE TABLE effects (event text NOT NULL, replica text NOT NULL, asked bigint NOT NULL, begun bigint NOT NULL)"

func sharedPostgres(t *testing.T, tx bool) sharedSettings {
	url := postgres(t, nil)
	db := openPostgres(t, url)
	newSQLStore(t, db, sqlstore.PostgreSQL)
	execSQL(t, db, createEffects)
	execSQL(t, db, "CREATE INDEX ON effects (event)")
	return sharedSettings{Driver: "pgx", URL: url, Tx: tx}
}

func sharedSQLite(t *testing.T) sharedSettings {
	dsn := sqliteDSN(filepath.Join(t.TempDir(), "events.db"))
	db := openSQLite(t, dsn)
	newSQLStore(t, db, sqlstore.SQLite)
	execSQL(t, db, createEffects)
	return sharedSettings{Driver: "sqlite", URL: dsn, Tx: true}
}

func sharedRedis(t *testing.T) sharedSettings {
	_, prefix := newRedis(t)
	return sharedSettings{Driver: "redis", URL: redisURL, Prefix: prefix}
}

// A service runs as several processes, which Grantex delivers to.
type service struct {
	t         *testing.T
	shared    *shared
	processes []*process
	client    *http.Client
	events    []string // their ids

	mu      sync.Mutex
	answers map[string]int
}

// startService starts three replicas; the handlers of the first get stuck.
func startService(t *testing.T, settings replicaSettings) *service {
	t.Helper()
	sh, err := openShared(settings.sharedSettings)
	require.NoError(t, err)
	t.Cleanup(func() { sh.close() })
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * eventsAtOnce}
	t.Cleanup(transport.CloseIdleConnections)
	s := &service{
		t:       t,
		shared:  sh,
		client:  &http.Client{Transport: transport, Timeout: sender.Timeout},
		answers: make(map[string]int),
	}
	for _, name := range []string{"a", "b", "c"} {
		settings.Name = name
		s.processes = append(s.processes, startProcess(t, settings))
		settings.StuckFrom, settings.Stuck = 0, nil
	}
	return s
}

// victim is the process to be killed.
func (s *service) victim() *process { return s.processes[0] }

func (s *service) survivors() []*process { return s.processes[1:] }

// stop ends the survivors, which fails if the race detector found a race in one.
func (s *service) stop() {
	s.t.Helper()
	for _, p := range s.survivors() {
		p.stdin.Close()
		late := p.killIn(patience)
		require.NoError(s.t, p.wait(), "process %s failed", p.name)
		late.Stop()
	}
}

// A process is a running replica.
type process struct {
	name   string
	url    *url.URL
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Scanner
	stderr bytes.Buffer // must only be read after the process has ended
	killed atomic.Bool
	wait   func() error
}

func startProcess(t *testing.T, settings replicaSettings) *process {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	text, err := json.Marshal(settings)
	require.NoError(t, err)
	p := &process{name: settings.Name, cmd: exec.CommandContext(t.Context(), path)}
	p.cmd.Env = append(os.Environ(), replicaVariable+"="+string(text))
	p.cmd.Stderr = &p.stderr
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.stdout = bufio.NewScanner(stdout)
	require.NoError(t, p.cmd.Start())
	p.wait = sync.OnceValue(p.cmd.Wait)
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wait()
		if t.Failed() {
			t.Logf("process %s wrote at the end:\n%s", p.name, tail(p.stderr.String()))
		}
	})
	late := p.killIn(patience)
	require.True(t, p.stdout.Scan(), "process %s doesn't listen", p.name)
	late.Stop()
	p.url, err = sender.ParseURL("http://" + p.stdout.Text())
	require.NoError(t, err)
	return p
}

func (p *process) killIn(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() { p.cmd.Process.Kill() })
}

func tail(text string) string {
	const most = 4000
	return text[max(0, len(text)-most):]
}

// killStuck kills the process when enough handlers are stuck, and returns the place of
// each by event. It returns fewer if the process ends before that.
func (p *process) killStuck(want int) map[string]string {
	stuck := make(map[string]string)
	for len(stuck) < want && p.stdout.Scan() {
		event, place, _ := strings.Cut(p.stdout.Text(), " ")
		stuck[event] = place
	}
	if len(stuck) == want {
		p.killed.Store(true) // first: from now on connections may break
		p.cmd.Process.Kill()
	}
	return stuck
}

// A parcel is an event with the processes that it must be sent to at once.
type parcel struct {
	id   string
	body []byte
	to   []*process
}

func newParcel(t testing.TB, grantID string) parcel {
	t.Helper()
	e := sender.NewEvent(grantexhook.TypeGrantRevoked, grantexhook.GrantRevoked{GrantID: grantID})
	body, err := sender.Body(e)
	require.NoError(t, err)
	return parcel{id: e.ID, body: body}
}

func (s *service) parcels(n int) []parcel {
	parcels := make([]parcel, n)
	for i := range parcels {
		p := newParcel(s.t, fate(i))
		first := i % len(s.processes) // so no process is ahead of the others
		p.to = append(slices.Clone(s.processes[first:]), s.processes[:first]...)
		parcels[i] = p
		s.events = append(s.events, p.id)
	}
	return parcels
}

func fate(i int) string {
	switch {
	case i%16 == 5:
		return willFail
	case i%64 == 9:
		return willPanic
	case i%500 == 250:
		return willBeLate
	}
	return willSucceed
}

// deliver makes the attempts at all parcels, as many as Grantex makes. It returns
// which events were stuck in the killed process, and where.
func (s *service) deliver(parcels []parcel, toGetStuck int) (stuck map[string]string) {
	asked := make(chan map[string]string, 1)
	go func() {
		stuck := s.victim().killStuck(toGetStuck)
		if s.victim().killed.Load() {
			s.askFor(stuck, slices.Clone(parcels))
		}
		asked <- stuck
	}()
	due := s.attempt(slices.Clone(parcels))
	require.True(s.t, s.victim().killed.Load(), "there were never %d stuck handlers in the process to kill", toGetStuck)
	for n := 1; n < sender.MaxAttempts && len(due) > 0; n++ {
		time.Sleep(retryGap)
		s.redirect(due)
		due = s.attempt(due)
	}
	stuck = <-asked
	if len(due) > 0 {
		s.t.Fatalf("%d events weren't acknowledged in %d attempts, for example %s; responses %v", len(due), sender.MaxAttempts, due[0].id, s.answers)
	}
	return stuck
}

// askFor sends the events that were stuck in the killed process to a survivor until
// they're acknowledged. All other attempts come after the leases, and wouldn't show
// whether one ended too soon.
func (s *service) askFor(stuck map[string]string, parcels []parcel) {
	due := slices.DeleteFunc(parcels, func(p parcel) bool { return stuck[p.id] == "" })
	for i := range due {
		due[i].to = s.survivors()[:1]
	}
	for end := time.Now().Add(patience); len(due) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		due = s.attempt(due)
	}
}

// redirect sends the events that the killed process didn't acknowledge to the survivors.
func (s *service) redirect(due []parcel) {
	for i, p := range due {
		for j, to := range p.to {
			if to == s.victim() {
				p.to[j] = s.survivors()[i%len(s.survivors())]
			}
		}
	}
}

// attempt sends all parcels and returns those that must be sent again.
func (s *service) attempt(due []parcel) (left []parcel) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, eventsAtOnce)
	for i := range due {
		slots <- struct{}{}
		wg.Go(func() {
			due[i].to = s.sendAtOnce(due[i])
			<-slots
		})
	}
	wg.Wait()
	return slices.DeleteFunc(due, func(p parcel) bool { return len(p.to) == 0 })
}

// sendAtOnce returns the processes that didn't acknowledge the parcel.
func (s *service) sendAtOnce(p parcel) (next []*process) {
	acknowledged := make([]bool, len(p.to))
	var wg sync.WaitGroup
	for i, to := range p.to {
		wg.Go(func() { acknowledged[i] = s.send(p, to) })
	}
	wg.Wait()
	for i, to := range p.to {
		if !acknowledged[i] {
			next = append(next, to)
		}
	}
	return next
}

func (s *service) send(p parcel, to *process) (acknowledged bool) {
	if to.killed.Load() { // and another process may have its port by now
		s.count(killedBefore)
		return false
	}
	status, text, err := s.post(p, to)
	switch {
	case err != nil && to.killed.Load():
		s.count(killedMeanwhile)
		return false
	case err != nil:
		s.t.Errorf("%s to process %s, which wasn't killed: %v", p.id, to.name, err)
		return false
	}
	s.count(fmt.Sprint(status, " ", text))
	switch status {
	case http.StatusOK:
		s.checkEffect(p.id, to)
	case http.StatusConflict, http.StatusInternalServerError, http.StatusServiceUnavailable:
	default:
		s.t.Errorf("%s to process %s: response %d %s", p.id, to.name, status, text)
	}
	return status == http.StatusOK
}

// post sends a request as Grantex would, with keep-alive and in chunks.
func (s *service) post(p parcel, to *process) (status int, text string, err error) {
	d := sender.Parcel{URL: to.url, Secret: replicaSecret, Body: p.body}
	resp, err := s.client.Do(&http.Request{
		Method:        http.MethodPost,
		URL:           d.URL,
		Header:        d.Header(time.Now()),
		Body:          io.NopCloser(bytes.NewReader(d.Body)),
		ContentLength: -1,
	})
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(answer)), err
}

func (s *service) count(answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[answer]++
}

// checkEffect fails the test if an event was acknowledged but has no effect, since
// Grantex would never send it again.
func (s *service) checkEffect(event string, by *process) {
	deeds, err := s.shared.ledger.of(s.t.Context(), event)
	if err != nil || len(deeds) == 0 {
		s.t.Errorf("process %s acknowledged %s, which has no effect (%v)", by.name, event, err)
	}
}

// deeds returns what was done about each event, earliest first.
func (s *service) deeds() map[string][]deed {
	all := make(map[string][]deed)
	for _, event := range s.events {
		deeds, err := s.shared.ledger.of(s.t.Context(), event)
		require.NoError(s.t, err)
		require.NotEmpty(s.t, deeds, "no effect of %s", event)
		slices.SortFunc(deeds, func(a, b deed) int { return cmp.Compare(a.Begun, b.Begun) })
		all[event] = deeds
	}
	return all
}

// requireStuck checks the effects of the handlers that were killed while they were
// stuck. Each of them has tried what the test is about.
func requireStuck(t *testing.T, deeds map[string][]deed, stuck map[string]string, victim string, tx bool) {
	t.Helper()
	for event, place := range stuck {
		made := deeds[event]
		if place != stuckAfter {
			require.NotEqual(t, victim, made[0].Replica, "killed %s, but the effect is there: %+v", place, made)
			continue
		}
		require.Equal(t, victim, made[0].Replica, "killed %s, but the effect is gone: %+v", place, made)
		if !tx {
			require.Len(t, made, 2, "killed %s, so the event must be handled again: %+v", place, made)
		}
	}
}

// requireOnce checks that each event had its effect once. Without Tx an event may have
// it again after its lease, if the process that created the effect was killed before it
// could record that. requireOnce returns how many events had.
func requireOnce(t *testing.T, deeds map[string][]deed, victim string, tx bool) (repeats int) {
	t.Helper()
	for event, made := range deeds {
		if tx {
			require.Len(t, made, 1, "%s was handled again, in spite of Tx: %+v", event, made)
		}
		for i, later := range made[1:] {
			earlier := made[i]
			require.Equal(t, victim, earlier.Replica, "%s was handled again, but it was not the killed process %s that had handled it: %+v", event, victim, made)
			after := time.Duration(later.Begun-earlier.Asked) * time.Microsecond
			require.GreaterOrEqual(t, after, replicaLease-clockSlack, "%s was handled again before its lease was over: %+v", event, made)
			repeats++
		}
	}
	return repeats
}
