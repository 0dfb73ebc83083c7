//go:build unix

package integration

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A privatePostgres is a PostgreSQL that belongs to one test, which can kill it. Its
// commits are as durable as the settings of a server in production make them. Clients
// connect through a socket in its folder, so no other process can get its address while
// it's down.
type privatePostgres struct {
	t      testing.TB
	bin    string
	dir    string
	args   []string
	as     *syscall.Credential // nil if the test's own user can run a server
	cmd    *exec.Cmd           // nil while the server is down
	exited chan struct{}
}

// newPrivatePostgres starts a server. The settings come after its own.
func newPrivatePostgres(t testing.TB, settings ...string) *privatePostgres {
	t.Helper()
	p := &privatePostgres{t: t, bin: postgresPrograms(t), as: postgresUser(t)}
	var err error
	p.dir, err = os.MkdirTemp("", "grantexhook-") // the folders of t.TempDir are closed to other users
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	if p.as != nil {
		require.NoError(t, os.Chown(p.dir, int(p.as.Uid), int(p.as.Gid)))
	}
	initdb := p.command("initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	output, err := initdb.CombinedOutput()
	require.NoError(t, err, "initdb failed: %s", output)
	own := []string{
		"listen_addresses=", "unix_socket_directories=" + p.dir, "max_connections=100", "shared_buffers=16MB",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
	}
	p.args = []string{"-D", p.data()}
	for _, setting := range append(own, settings...) {
		p.args = append(p.args, "-c", setting)
	}
	t.Cleanup(p.kill)
	p.start()
	return p
}

// postgresPrograms returns the folder of the programs that start a server.
func postgresPrograms(t testing.TB) string {
	t.Helper()
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	slices.SortFunc(debian, func(a, b string) int { return cmp.Compare(majorVersion(b), majorVersion(a)) })
	for _, dir := range append(dirs, debian...) {
		if isProgram(dir, "initdb") && isProgram(dir, "postgres") {
			return dir
		}
	}
	cantStartPostgres(t, "initdb and postgres aren't installed; Debian has them in the package postgresql")
	return ""
}

func isProgram(dir, name string) bool {
	_, err := exec.LookPath(filepath.Join(dir, name))
	return err == nil
}

func majorVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// cantStartPostgres skips the test, or fails it in CI.
func cantStartPostgres(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("can't start a private PostgreSQL, and CI is set: %s", reason)
	}
	t.Skipf("can't start a private PostgreSQL: %s", reason)
}

// postgresUser returns another user if the test runs as root, because a server refuses
// to.
func postgresUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if _, err := exec.LookPath("ps"); err != nil {
		cantStartPostgres(t, "ps, which finds the processes to kill, isn't installed; Debian has it in the package procps")
	}
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		require.NoError(t, err)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	cantStartPostgres(t, "it refuses to run as root, and there's no user postgres or nobody")
	return nil
}

func (p *privatePostgres) data() string    { return filepath.Join(p.dir, "data") }
func (p *privatePostgres) logPath() string { return filepath.Join(p.dir, "log") }

func (p *privatePostgres) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	return cmd
}

// url is for each driver that the tests use.
func (p *privatePostgres) url(settings ...string) string {
	q := url.Values{"host": {p.dir}, "user": {"postgres"}, "sslmode": {"disable"}}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		q.Set(name, value)
	}
	return "postgres:///postgres?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// start starts the server and waits until it has recovered. It tries again if the
// processes that were killed still hold the server's shared memory.
func (p *privatePostgres) start() {
	p.t.Helper()
	db, err := sql.Open("pgx", p.url())
	require.NoError(p.t, err)
	defer db.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		p.launch()
		if p.responds(db, end) {
			return
		}
		p.kill()
	}
	p.t.Fatalf("PostgreSQL doesn't start: %s", p.log())
}

// launch starts the server and doesn't wait for it.
func (p *privatePostgres) launch() {
	p.t.Helper()
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer log.Close()
	p.cmd = p.command("postgres", p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	require.NoError(p.t, p.cmd.Start())
	cmd, exited := p.cmd, make(chan struct{})
	p.exited = exited
	go func() { cmd.Wait(); close(exited) }()
}

func (p *privatePostgres) responds(db *sql.DB, end time.Time) bool {
	for time.Now().Before(end) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := db.PingContext(ctx)
		cancel()
		if err == nil {
			return true
		}
		select {
		case <-p.exited:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// kill kills the server with all its processes. It stops the first one before, which
// would start others.
func (p *privatePostgres) kill() {
	if p.cmd == nil {
		return
	}
	pid := p.cmd.Process.Pid
	p.cmd.Process.Signal(syscall.SIGSTOP)
	for _, child := range children(p.t, pid) {
		syscall.Kill(child, syscall.SIGKILL)
	}
	p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
}

func children(t testing.TB, parent int) (pids []int) {
	out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err == nil && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (p *privatePostgres) log() string {
	text, err := os.ReadFile(p.logPath())
	require.NoError(p.t, err)
	return tail(string(text))
}
