package grantexapi

import (
	"bufio"
	"bytes"
	"io"
)

// maxEvent is how many bytes an event may have. Grantex's largest has 154,241.
const maxEvent = 1 << 20

// A frame is a comment, or the data of one event.
type frame struct {
	comment bool
	data    []byte // nil if there were more than maxEvent bytes
	size    int    // of the data
}

// A parser reads a stream of server-sent events as section 9.2.6 of the HTML
// standard defines it, but leaves bytes that aren't UTF-8 as they are. It keeps at most
// maxEvent bytes of an event and of a line.
type parser struct {
	r       *bufio.Reader
	started bool
	afterCR bool // an LF that comes next still belongs to the last line's end
	line    []byte
	size    int // of the line
	pending frame
	hasData bool
}

func newParser(r io.Reader) *parser { return &parser{r: bufio.NewReader(r)} }

// begin waits for the first byte, and skips a byte order mark.
func (p *parser) begin() error {
	if p.started {
		return nil
	}
	mark, err := p.r.Peek(1)
	if err != nil {
		return err
	}
	p.started = true
	if mark[0] != 0xEF {
		return nil
	}
	if mark, _ = p.r.Peek(3); string(mark) == "\uFEFF" {
		p.r.Discard(len(mark))
	}
	return nil
}

// next returns the next comment, or the next event that has data. A browser would also
// return an event whose data is empty. An event without an empty line after it is
// incomplete, and isn't returned.
func (p *parser) next() (frame, error) {
	for {
		if err := p.readLine(); err != nil {
			return frame{}, err
		}
		switch {
		case p.size == 0:
			f := p.pending
			p.pending, p.hasData = frame{}, false
			if f.size > 0 {
				return f, nil
			}
		case p.line[0] == ':':
			return frame{comment: true}, nil
		default:
			p.field()
		}
	}
}

// cut reports whether the stream is in the middle of an event.
func (p *parser) cut() bool { return p.hasData || p.size > 0 && p.line[0] != ':' }

// field adds the line to the event if it is data. The other fields don't matter in
// a stream without ids.
func (p *parser) field() {
	name, value, _ := bytes.Cut(p.line, []byte(":"))
	if string(name) != "data" {
		return
	}
	value = bytes.TrimPrefix(value, []byte(" "))
	if p.hasData {
		p.add([]byte("\n"), 1)
	}
	p.hasData = true
	p.add(value, len(value)+p.size-len(p.line))
}

// add adds text to the data. size is the length of text before it was truncated.
func (p *parser) add(text []byte, size int) {
	over := p.pending.size+size > maxEvent
	p.pending.size += size
	if over {
		p.pending.data = nil
		return
	}
	p.pending.data = append(p.pending.data, text...)
}

// readLine reads a line without its end. It doesn't wait for the byte after a CR,
// which may be a long time coming.
func (p *parser) readLine() error {
	p.line, p.size = p.line[:0], 0
	if err := p.begin(); err != nil {
		return err
	}
	for {
		b, err := p.r.ReadByte()
		switch {
		case err != nil:
			return err
		case b == '\n' && p.afterCR:
			p.afterCR = false
		case b == '\n' || b == '\r':
			p.afterCR = b == '\r'
			return nil
		default:
			p.afterCR = false
			p.keep(b)
		}
	}
}

// keep keeps a little more of a line than of an event, for the name of its field.
func (p *parser) keep(b byte) {
	p.size++
	if len(p.line) < maxEvent+len("data: ") {
		p.line = append(p.line, b)
	}
}
