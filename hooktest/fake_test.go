package hooktest_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A fakeT is a test whose failure doesn't fail the test that runs it.
type fakeT struct {
	testing.TB
	errors   []string
	fatal    string
	output   bytes.Buffer
	deadline time.Time // zero: no deadline
}

func (*fakeT) Helper() {}

func (t *fakeT) Output() io.Writer { return &t.output }

func (t *fakeT) Deadline() (time.Time, bool) { return t.deadline, !t.deadline.IsZero() }

func (t *fakeT) Errorf(format string, args ...any) {
	t.errors = append(t.errors, fmt.Sprintf(format, args...))
}

func (t *fakeT) Fatalf(format string, args ...any) {
	t.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fake runs f as a separate test.
func fake(f func(t testing.TB)) *fakeT { return fakeUntil(time.Time{}, f) }

// fakeUntil is fake with a deadline.
func fakeUntil(deadline time.Time, f func(t testing.TB)) *fakeT {
	t := &fakeT{deadline: deadline}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(t)
	}()
	<-done
	return t
}

func requireFatal(t *testing.T, want string, f func(t testing.TB)) {
	t.Helper()
	got := fake(f)
	require.Empty(t, got.errors)
	require.True(t, strings.HasPrefix(got.fatal, "hooktest: "), got.fatal)
	require.Contains(t, got.fatal, want)
}
