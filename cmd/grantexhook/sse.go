package main

import (
	"bufio"
	"bytes"
	"io"
)

// maxFrame is the most data of one event that is kept.
const maxFrame = 1 << 20

// A frame is a comment, or the data of one event.
type frame struct {
	comment bool
	data    []byte // nil if there was more than maxFrame
	size    int    // of the data
}

// A parser reads a stream of server-sent events, as the HTML standard defines
// it in section 9.2.6. It keeps no more than maxFrame of an event and of a line.
type parser struct {
	r       *bufio.Reader
	started bool
	afterCR bool // an LF that comes next belongs to the end of the line before
	line    []byte
	size    int // of the line
	pending frame
	hasData bool
}

func newParser(r io.Reader) *parser { return &parser{r: bufio.NewReader(r)} }

// next returns the next comment or event that has data. What has no empty line
// after it when the stream ends is no event.
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

// field adds the line to the event, if it is data. No other field matters to
// who reads a stream without ids.
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

// add adds to the data text that is kept, of size bytes before it was cut off.
func (p *parser) add(text []byte, size int) {
	over := p.pending.size+size > maxFrame
	p.pending.size += size
	if over {
		p.pending.data = nil
		return
	}
	p.pending.data = append(p.pending.data, text...)
}

// readLine reads a line, without its end. It does not wait for what comes after
// a CR, which may be long in coming.
func (p *parser) readLine() error {
	p.line, p.size = p.line[:0], 0
	for {
		b, err := p.readByte()
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
	if len(p.line) < maxFrame+len("data: ") {
		p.line = append(p.line, b)
	}
}

// readByte leaves out a byte order mark at the beginning of the stream.
func (p *parser) readByte() (byte, error) {
	if !p.started {
		p.started = true
		if mark, _ := p.r.Peek(1); len(mark) == 1 && mark[0] == 0xEF {
			if mark, _ := p.r.Peek(3); string(mark) == "\uFEFF" {
				p.r.Discard(len(mark))
			}
		}
	}
	return p.r.ReadByte()
}
