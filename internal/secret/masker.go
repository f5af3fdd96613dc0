package secret

import (
	"fmt"
	"io"
	"strings"
)

const stars = "***"

// harmless is how many bytes of what could become a value Flush gives away.
const harmless = 2

// A Masker copies what is written to it and replaces values by "***". Values
// that overlap become one "***" together, so no part of either is left.
// The result does not depend on how the data is cut into writes.
//
// What could be the beginning of a value is held back until it is clear; that
// is never more than the longest form of a value. Nothing is released by time.
//
// A Masker must not be used by several goroutines at once.
type Masker struct {
	dst   io.Writer
	auto  *automaton
	state int32
	// held has been read but not been decided about. Offsets below count
	// from its start.
	held []byte
	// found are stretches to mask, in order, none overlapping another. They
	// may still become part of a longer one.
	found []span
	// covered is the end of the last stretch for which stars were written.
	covered int
	out     []byte
}

type span struct{ start, end int }

// Masker returns a writer that masks what it passes on to dst.
func (s *Set) Masker(dst io.Writer) *Masker {
	m := &Masker{dst: dst}
	if s != nil {
		m.auto = s.mask
	}
	return m
}

// cut ends a text that was shortened, minCut is the length of the shortest
// beginning of a value that is masked before it.
const (
	cut    = "…"
	minCut = 4
)

// Mask returns text with values replaced. The beginning of a value at which the
// text was shortened is replaced, too.
func (s *Set) Mask(text string) string {
	if s.Empty() {
		return text
	}
	var out strings.Builder
	m := s.Masker(&out)
	m.held = []byte(text)
	for i := range m.held {
		if n := int(m.auto.nodes[m.state].depth); n >= minCut && strings.HasPrefix(text[i:], cut) {
			m.mark(span{i - n, i})
		}
		m.advance(i)
	}
	_ = m.Close() // a Builder takes everything
	return out.String()
}

// Write takes output.
func (m *Masker) Write(p []byte) (int, error) {
	if m.auto == nil || m.auto.empty() {
		return m.dst.Write(p)
	}
	from := len(m.held)
	m.held = append(m.held, p...)
	m.search(from)
	m.settle(len(m.held) - int(m.auto.nodes[m.state].depth))
	if err := m.emit(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// search looks at held from there on.
func (m *Masker) search(from int) {
	for i := from; i < len(m.held); {
		if m.state == 0 {
			if i = m.auto.skip(m.held, i); i >= len(m.held) {
				return
			}
		}
		m.advance(i)
		i++
	}
}

// advance looks at the byte at i.
func (m *Masker) advance(i int) {
	m.state = m.auto.step(m.state, m.held[i])
	if n := int(m.auto.nodes[m.state].longest); n > 0 {
		m.mark(span{i + 1 - n, i + 1})
	}
}

// mark adds a stretch that ends where the search has come to.
func (m *Masker) mark(s span) {
	for len(m.found) > 0 && m.found[len(m.found)-1].end > s.start {
		last := len(m.found) - 1
		s.start = min(s.start, m.found[last].start)
		m.found = m.found[:last]
	}
	m.found = append(m.found, s)
}

// settle decides about everything before limit, where the earliest value that
// is not complete may begin.
func (m *Masker) settle(limit int) {
	done, next := 0, 0
	for _, s := range m.found {
		if s.start > limit {
			break
		}
		if s.start > done {
			m.out = append(m.out, m.held[done:s.start]...)
		}
		if s.start >= m.covered {
			m.out = append(m.out, stars...)
		}
		done, m.covered = max(done, s.end), s.end
		next++
	}
	if limit > done {
		m.out = append(m.out, m.held[done:limit]...)
		done = limit
	}
	m.drop(done, next)
}

// drop forgets n bytes and the stretches before them.
func (m *Masker) drop(n, spans int) {
	m.held = m.held[:copy(m.held, m.held[n:])]
	m.found = m.found[:copy(m.found, m.found[spans:])]
	for i := range m.found {
		m.found[i].start -= n
		m.found[i].end -= n
	}
	m.covered = max(m.covered-n, -1<<30)
}

func (m *Masker) emit() error {
	if len(m.out) == 0 {
		return nil
	}
	_, err := m.dst.Write(m.out)
	m.out = m.out[:0]
	return err
}

// Flush passes on what is held back if that is the beginning of a value by
// chance, namely no more than two bytes of it. A longer beginning stays. If the
// rest of a value follows, that is masked. Call it when output has paused.
func (m *Masker) Flush() error {
	if len(m.held) == 0 || int(m.auto.nodes[m.state].depth) > harmless {
		return nil
	}
	m.settle(len(m.held))
	return m.emit()
}

// Close passes on all that is held back: what has not become a value will not
// any more. It does not close the destination.
func (m *Masker) Close() error {
	m.settle(len(m.held))
	m.state, m.covered = 0, 0
	return m.emit()
}

// Format hides what is held back.
func (m *Masker) Format(f fmt.State, _ rune) { hide(f) }
