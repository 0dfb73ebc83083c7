package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/internal/sender"
)

// terminal returns both ends of a pseudoterminal.
func terminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	var unlock, n int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &n} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(unsafe.Pointer(arg)))
		require.Zero(t, errno)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { program.Close() })
	return screen, program
}

// TestListenJSONOnATerminal checks that a terminal gets escapes where a pipe gets the
// body byte for byte.
func TestListenJSONOnATerminal(t *testing.T) {
	screen, program := terminal(t)
	ctx, stop := context.WithCancel(t.Context())
	l := &listening{secret: testSecret}
	status := make(chan int)
	getenv := func(name string) string { return map[string]string{"GRANTEX_WEBHOOK_SECRET": testSecret}[name] }
	go func() {
		status <- run(ctx, []string{"listen", "-json", "-addr", "127.0.0.1:0"}, getenv, nil, program, &l.stderr)
	}()
	l.url = l.stderr.find(t, `listening on (\S+)\n`)
	require.Equal(t, http.StatusOK, l.send(t, sender.Parcel{Body: []byte("{\"id\":\"evt_1\",\"type\":\"x.\u202e\u009b\x9b\"}")}))
	line, err := bufio.NewReader(screen).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, `{"id":"evt_1","type":"x.\u202e\u009b`+"\ufffd\"}\r\n", line)
	stop()
	require.Equal(t, exitDone, <-status)
}

func TestReadFromATerminal(t *testing.T) {
	screen, program := terminal(t)
	_, err := io.WriteString(screen, "{}\n\x04")
	require.NoError(t, err)
	var stderr bytes.Buffer
	a := &app{stdin: program, stderr: &output{w: &stderr}}
	text, err := a.read("-")
	require.NoError(t, err)
	require.Equal(t, "{}\n", string(text))
	require.Equal(t, "reading from the terminal until Ctrl-D (on Windows, Ctrl-Z and Enter)\n", stderr.String())
}
