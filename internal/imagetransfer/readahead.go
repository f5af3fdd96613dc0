package imagetransfer

import "io"

// A ReadAhead reads a stream before its content is needed, so that reading a layer,
// compressing it and sending it happen at the same time.
type ReadAhead struct {
	full, free chan aheadBlock
	stop       chan struct{}
	current    aheadBlock
	rest       []byte
	err        error
}

type aheadBlock struct {
	data []byte
	err  error
}

// Each stream reads this much ahead. As many layers as the library likes, which
// are six, are sent at once.
const (
	aheadBlocks = 4
	aheadSize   = 512 << 10
)

// NewReadAhead begins to read from. Close waits until it is no longer read; it
// does not close it.
func NewReadAhead(from io.Reader) *ReadAhead {
	a := &ReadAhead{full: make(chan aheadBlock, aheadBlocks), free: make(chan aheadBlock, aheadBlocks), stop: make(chan struct{})}
	for range aheadBlocks {
		a.free <- aheadBlock{data: make([]byte, aheadSize)}
	}
	go a.fill(from)
	return a
}

func (a *ReadAhead) fill(from io.Reader) {
	defer close(a.full)
	for {
		var b aheadBlock
		select {
		case b = <-a.free:
		case <-a.stop:
			return
		}
		// A slow source is passed on as it comes.
		n, err := io.ReadAtLeast(from, b.data[:aheadSize], 1)
		for err == nil && n < aheadSize && len(a.full) > 0 {
			var more int
			more, err = from.Read(b.data[n:aheadSize])
			n += more
		}
		b.data, b.err = b.data[:n], err
		a.full <- b // there are never more blocks than have room
		if err != nil {
			return
		}
	}
}

// Read reads what has been read.
func (a *ReadAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.current.data != nil {
			a.free <- aheadBlock{data: a.current.data}
		}
		var ok bool
		if a.current, ok = <-a.full; !ok {
			a.current.data, a.err = nil, io.ErrClosedPipe
			continue
		}
		a.rest, a.err = a.current.data, a.current.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the reading.
func (a *ReadAhead) Close() error {
	close(a.stop)
	for range a.full {
		continue // until the reader has ended
	}
	return nil
}
