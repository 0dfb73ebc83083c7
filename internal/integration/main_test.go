package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain makes the test binary one of several processes, if it is told to.
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
	m.Run()
	if plain.path != "" {
		os.RemoveAll(filepath.Dir(plain.path))
	}
}
