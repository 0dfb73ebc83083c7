package grantexapi

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// frames reads a stream to its end. A comment is ":".
func frames(t testing.TB, r io.Reader) (all []string, cut bool) {
	t.Helper()
	p := newParser(r)
	for {
		f, err := p.next()
		switch {
		case err != nil:
			require.ErrorIs(t, err, io.EOF)
			return all, p.cut()
		case f.comment:
			all = append(all, ":")
		case f.data == nil:
			require.Greater(t, f.size, maxEvent)
			all = append(all, "too large")
		default:
			require.Len(t, f.data, f.size)
			all = append(all, string(f.data))
		}
	}
}

func TestParser(t *testing.T) {
	most := strings.Repeat("x", maxEvent)
	tests := []struct {
		name, stream string
		want         []string
		cut          bool
	}{
		{"nothing", "", nil, false},
		{"LF", "data: a\n\ndata: b\n\n", []string{"a", "b"}, false},
		{"CR", "data: a\r\rdata: b\r\r", []string{"a", "b"}, false},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, false},
		{"all three", "data: a\r\rdata: b\n\ndata: c\r\n\r\n\n\r", []string{"a", "b", "c"}, false},
		{"lines with CR", "data: a\rdata: b\r\r", []string{"a\nb"}, false},
		{"lines with CRLF", "data: a\r\ndata: b\r\n\r\n", []string{"a\nb"}, false},
		{"CRLF and LF", "data: a\r\n\ndata: b\r\n\n", []string{"a", "b"}, false},
		{"CRLF and CR", "data: a\r\n\rdata: b\r\n\r", []string{"a", "b"}, false},
		{"LF and CR", "data: a\n\rdata: b\n\r", []string{"a", "b"}, false},
		{"cut after CRLF", "data: a\r\n", nil, true},
		{"comment with CRLF", "data: a\r\n: within\r\ndata: b\r\n\r\n", []string{":", "a\nb"}, false},
		{"no space", "data:a\n\n", []string{"a"}, false},
		{"two spaces", "data:  a\n\n", []string{" a"}, false},
		{"colons in the data", "data: a: b:c\n\n", []string{"a: b:c"}, false},
		{"several lines", "data: a\ndata:\ndata: b\n\n", []string{"a\n\nb"}, false},
		{"a field without a colon", "data\ndata: a\ndata\n\n", []string{"\na\n"}, false},
		{"other fields", "id: 1\nevent: x\nretry: 5\ndatum: x\nDATA: x\n data: x\ndata: a\n\n", []string{"a"}, false},
		{"comments", ": keepalive\n\n:\n\ndata: a\n: within\ndata: b\n\n", []string{":", ":", ":", "a\nb"}, false},
		{"no data", "id: 1\n\ndata\n\ndata:\n\ndata: a\n\n", []string{"a"}, false},
		{"byte order mark", "\uFEFFdata: a\n\n", []string{"a"}, false},
		{"byte order mark and nothing", "\uFEFF", nil, false},
		{"half a byte order mark", "\xEF\xBBdata: a\n\ndata: b\n\n", []string{"b"}, false},
		{"byte order mark later", "\n\uFEFFdata: a\n\ndata: \uFEFFb\n\n", []string{"\uFEFFb"}, false},
		{"bytes that aren't text", "data: \x00\xFF\xC3\n\ndata: a\x00\n\n", []string{"\x00\xFF\xC3", "a\x00"}, false},
		{"cut in a line", "data: a\n\ndata: b", []string{"a"}, true},
		{"cut before the empty line", "data: a\n\ndata: b\n", []string{"a"}, true},
		{"cut in a comment", "data: a\n\n: keepal", []string{"a"}, false},
		{"as large as can be", "data: " + most + "\n\n", []string{most}, false},
		{"as large as can be without a space", "data:" + most + "\n\n", []string{most}, false},
		{"a byte too large", "data: x" + most + "\n\ndata: a\n\n", []string{"too large", "a"}, false},
		{"far too large", "data: " + strings.Repeat(most, 3) + "\n\ndata: a\n\n", []string{"too large", "a"}, false},
		{"too large with its lines", "data: " + most[1:] + "\ndata: x\n\ndata: a\n\n", []string{"too large", "a"}, false},
		{"a large comment", ":" + most + most + "\ndata: a\n\n", []string{":", "a"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, cut := frames(t, strings.NewReader(tt.stream))
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.cut, cut)
			if len(tt.stream) > maxEvent {
				return
			}
			got, cut = frames(t, iotest.OneByteReader(strings.NewReader(tt.stream)))
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.cut, cut)
		})
	}
}

// TestParserDoesNotWait checks that an event is returned as soon as its last line
// has ended, though an LF may follow a CR.
func TestParserDoesNotWait(t *testing.T) {
	for _, stream := range []string{"data: a\n\n", "data: a\r\r", "data: a\r\n\r\n"} {
		r, w := io.Pipe()
		go w.Write([]byte(stream))
		bound := time.AfterFunc(5*time.Second, func() { w.CloseWithError(errors.New("the event isn't there yet")) })
		f, err := newParser(r).next()
		bound.Stop()
		require.NoError(t, err)
		require.Equal(t, "a", string(f.data))
		r.Close()
	}
}

// reference parses a whole stream the simple way, without bounds.
func reference(stream string) (all []string) {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream), "\n")
	var data []string
	for _, line := range lines[:len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line == "":
			if event := strings.Join(data, "\n"); event != "" {
				all = append(all, event)
			}
			data = nil
		case name == "":
			all = append(all, ":")
		case name == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return all
}

// FuzzParser looks for streams that the parser reads differently from the reference, or
// differently when they come byte by byte.
func FuzzParser(f *testing.F) {
	raw, err := os.ReadFile("testdata/stream.http")
	require.NoError(f, err)
	_, stream, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	f.Add(stream)
	f.Add([]byte("\uFEFFdata: a\r\rdata\r\ndata:b\n\n: c\n\n"))
	f.Add([]byte("\xEF\xBB"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, cut := frames(t, bytes.NewReader(stream))
		slow, slowCut := frames(t, iotest.OneByteReader(bytes.NewReader(stream)))
		require.Equal(t, reference(string(stream)), whole)
		require.Equal(t, whole, slow)
		require.Equal(t, cut, slowCut)
	})
}
