package grantexhook

import (
	"io"
	"sync"
)

// pageBytes is the size of a page. It bounds the memory that a connection takes
// beyond the bytes that it sent.
const pageBytes = 4 << 10

// A page is a part of a body, followed by the rest of it.
type page struct {
	data []byte
	next *page
}

// pages are for bodies that aren't verified yet. A body takes one page after the
// other as its bytes arrive, and gives them back: a forged one leaves no garbage
// that grows with its size, a slow one pins little more than it sent, and no
// short one ever holds a buffer that a long one needed.
var pages = sync.Pool{New: func() any { return &page{data: make([]byte, 0, pageBytes)} }}

func newPage() *page {
	p := pages.Get().(*page)
	p.data, p.next = p.data[:0], nil
	return p
}

// free returns p and all that follow it to the pool.
func (p *page) free() {
	for p != nil {
		next := p.next // before another takes p
		pages.Put(p)
		p = next
	}
}

// readFrom reads r to its end, into p and into pages that it adds.
func (p *page) readFrom(r io.Reader) error {
	for {
		if len(p.data) == cap(p.data) {
			p.next = newPage()
			p = p.next
		}
		n, err := r.Read(p.data[len(p.data):cap(p.data)])
		p.data = p.data[:len(p.data)+n]
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (p *page) size() (n int) {
	for ; p != nil; p = p.next {
		n += len(p.data)
	}
	return n
}

// clone returns the whole body in memory of its own.
func (p *page) clone() []byte {
	body := make([]byte, 0, p.size())
	for ; p != nil; p = p.next {
		body = append(body, p.data...)
	}
	return body
}
