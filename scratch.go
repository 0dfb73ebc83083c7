package grantexhook

import (
	"io"
	"sync"
)

// A page is a part of a body, with a link to the rest.
type page struct {
	data []byte
	next *page
}

// pages are for bodies that aren't verified yet. A body takes one page after another as
// its bytes arrive, and they're returned afterwards. A forged body leaves no garbage
// that grows with its size. A slow one holds at most a page more than it sent. A short
// one never holds a buffer that grew for a long one.
var pages = sync.Pool{New: func() any { return &page{data: make([]byte, 0, 4<<10)} }}

func newPage() *page {
	p := pages.Get().(*page)
	p.data, p.next = p.data[:0], nil
	return p
}

// free returns p and all the pages after it to the pool.
func (p *page) free() {
	for p != nil {
		next := p.next // before p can be taken again
		pages.Put(p)
		p = next
	}
}

// readFrom reads r to its end, into p and the pages it adds.
func (p *page) readFrom(r io.Reader) (err error) {
	for n := 0; err == nil; {
		if len(p.data) == cap(p.data) {
			p.next = newPage()
			p = p.next
		}
		n, err = r.Read(p.data[len(p.data):cap(p.data)])
		p.data = p.data[:len(p.data)+n]
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (p *page) size() (n int) {
	for ; p != nil; p = p.next {
		n += len(p.data)
	}
	return n
}

// clone returns a copy of the whole body.
func (p *page) clone() []byte {
	body := make([]byte, 0, p.size())
	for ; p != nil; p = p.next {
		body = append(body, p.data...)
	}
	return body
}
