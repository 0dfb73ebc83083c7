package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain runs the tests, or one of the processes that tests start.
func TestMain(m *testing.M) {
	for variable, serve := range map[string]func([]byte) error{replicaVariable: serveReplica, inboxVariable: serveInbox} {
		if settings := os.Getenv(variable); settings != "" {
			if err := serve([]byte(settings)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		parallel.Value.Set("6") // most tests wait for servers, not for a processor
	}
	m.Run()
	if plain.path != "" {
		os.RemoveAll(filepath.Dir(plain.path))
	}
}

// skipIfShort is for tests that take more than a few seconds.
func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("the test takes long, and -short is set")
	}
}
