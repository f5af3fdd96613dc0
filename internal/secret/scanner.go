package secret

import (
	"bytes"
	"fmt"
)

// A Hit says which secret has been found, and how it was written.
type Hit struct {
	// ID of the secret, Form one of the Form constants.
	ID, Form string
}

// A Scanner searches data that comes in pieces. It holds no data, only how far
// it has come. It must not be used by several goroutines at once.
type Scanner struct {
	set          *Set
	text, packed int32
	fresh        bool // only blanks since the last line break
	buf          []byte
	hit          *Hit
}

// Scanner returns a scanner for the values of the set.
func (s *Set) Scanner() *Scanner { return &Scanner{set: s, fresh: true} }

// Reset makes the scanner ready for the next file: nothing is found across
// the border.
func (s *Scanner) Reset() {
	s.text, s.packed, s.fresh, s.hit = 0, 0, true, nil
}

// Hit returns the first value that has been found since the last Reset.
func (s *Scanner) Hit() (Hit, bool) {
	if s.hit == nil {
		return Hit{}, false
	}
	return *s.hit, true
}

// Write searches p together with what came before. It never fails. After a
// hit it does nothing.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.set == nil || s.hit != nil || s.set.text.empty() {
		return len(p), nil
	}
	s.text = s.search(s.set.text, s.text, p)
	if s.hit == nil {
		s.buf = pack(s.buf[:0], p, &s.fresh)
		s.packed = s.search(s.set.packed, s.packed, s.buf)
	}
	return len(p), nil
}

func (s *Scanner) search(a *automaton, state int32, p []byte) int32 {
	for i := 0; i < len(p); i++ {
		if state == 0 {
			if i = a.skip(p, i); i >= len(p) {
				break
			}
		}
		state = a.step(state, p[i])
		if n := &a.nodes[state]; n.longest > 0 {
			s.hit = &Hit{ID: s.set.ids[n.hit.label], Form: n.hit.form}
			break
		}
	}
	return state
}

// pack appends data without line breaks and without the blanks that begin a
// line, so that text which has been broken into lines is in one piece. fresh
// carries over from one piece to the next; it is true at the start.
func pack(dst, data []byte, fresh *bool) []byte {
	for len(data) > 0 {
		if *fresh {
			if data = bytes.TrimLeft(data, " \t\r\n"); len(data) == 0 {
				break
			}
		}
		end := bytes.IndexByte(data, '\n')
		*fresh = end >= 0
		line := data
		if end >= 0 {
			line, data = data[:end], data[end+1:]
		} else {
			data = nil
		}
		dst = appendWithout(dst, line, '\r')
	}
	return dst
}

func appendWithout(dst, line []byte, c byte) []byte {
	for {
		i := bytes.IndexByte(line, c)
		if i < 0 {
			return append(dst, line...)
		}
		dst = append(dst, line[:i]...)
		line = line[i+1:]
	}
}

// Find searches data.
func (s *Set) Find(data []byte) (Hit, bool) {
	sc := s.Scanner()
	_, _ = sc.Write(data)
	return sc.Hit()
}

// FindString searches text.
func (s *Set) FindString(text string) (Hit, bool) { return s.Find([]byte(text)) }

// Format hides how far the scanner has come in which value.
func (s *Scanner) Format(f fmt.State, _ rune) { hide(f) }
