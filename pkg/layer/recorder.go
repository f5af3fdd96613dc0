package layer

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/storage"
)

// A recorder takes a layer's stream, computes its digest and describes it in
// the tar-split format: all bytes that are no file's content, and where
// contents stand, with their checksums. With that, containers/storage can give
// the same stream out again from the files.
//
// The digest and the checksums are computed beside the caller, who reads files
// meanwhile: the bytes wait in blocks, which two goroutines work through.
type recorder struct {
	free           chan *block
	toSum, toSplit chan *block
	current        *block
	size           int64

	workers sync.WaitGroup
	sum     hash.Hash
	split   splitter
}

const (
	blockSize  = 1 << 20
	blockCount = 8
)

// A block is a piece of the stream.
type block struct {
	data  []byte
	marks []mark
	users atomic.Int32
}

// A mark says that at an offset of its block a content begins or ends.
type mark struct {
	at   int
	ends bool
	name string
	size int64
}

// newRecorder writes the description to split. The recorder must be closed.
func newRecorder(split io.Writer) *recorder {
	out := bufio.NewWriterSize(split, 256<<10)
	r := &recorder{
		free: make(chan *block, blockCount), toSum: make(chan *block, blockCount), toSplit: make(chan *block, blockCount),
		sum:   sha256.New(),
		split: splitter{out: out, packer: storage.NewJSONPacker(out), crc: crc64.New(crc64.MakeTable(crc64.ISO))},
	}
	for range blockCount {
		r.free <- &block{data: make([]byte, 0, blockSize)}
	}
	r.current = <-r.free
	r.work(r.toSum, func(b *block) { r.sum.Write(b.data) })
	r.work(r.toSplit, r.split.take)
	return r
}

func (r *recorder) work(blocks <-chan *block, do func(*block)) {
	r.workers.Add(1)
	go func() {
		defer r.workers.Done()
		for b := range blocks {
			do(b)
			if b.users.Add(-1) == 0 {
				r.free <- b
			}
		}
	}()
}

// Write takes the next bytes of the stream; it never fails.
func (r *recorder) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), blockSize-len(r.current.data))
		r.current.data = append(r.current.data, rest[:n]...)
		rest = rest[n:]
		if len(r.current.data) == blockSize {
			r.pass()
		}
	}
	r.size += int64(len(p))
	return len(p), nil
}

// pass gives the current block to the workers, and takes an empty one.
func (r *recorder) pass() {
	r.current.users.Store(2)
	r.toSum <- r.current
	r.toSplit <- r.current
	r.current = <-r.free
	r.current.data, r.current.marks = r.current.data[:0], r.current.marks[:0]
}

// begin says that the content of a file follows; end, that it is complete.
func (r *recorder) begin(name string, size int64) {
	r.current.marks = append(r.current.marks, mark{at: len(r.current.data), name: name, size: size})
}

func (r *recorder) end() {
	r.current.marks = append(r.current.marks, mark{at: len(r.current.data), ends: true})
}

// close waits for the workers. It must be called once, whatever has happened.
func (r *recorder) close() (digest.Digest, int64, error) {
	r.pass()
	close(r.toSum)
	close(r.toSplit)
	r.workers.Wait()
	if err := r.split.close(); err != nil {
		return "", 0, fmt.Errorf("describe the layer: %w", err)
	}
	return digest.NewDigest(digest.SHA256, r.sum), r.size, nil
}

// A splitter writes the entries of the tar-split format.
type splitter struct {
	out     *bufio.Writer
	packer  storage.Packer
	segment []byte
	file    *mark
	crc     hash.Hash64
	err     error
}

func (s *splitter) take(b *block) {
	from := 0
	for i := range b.marks {
		m := b.marks[i]
		s.bytes(b.data[from:m.at])
		from = m.at
		if m.ends {
			s.endFile()
			continue
		}
		s.endSegment()
		s.file = &m
		s.crc.Reset()
	}
	s.bytes(b.data[from:])
}

func (s *splitter) bytes(p []byte) {
	if s.file != nil {
		s.crc.Write(p)
		return
	}
	s.segment = append(s.segment, p...)
}

func (s *splitter) endSegment() {
	if len(s.segment) > 0 {
		s.add(storage.Entry{Type: storage.SegmentType, Payload: s.segment})
	}
	s.segment = s.segment[:0]
}

func (s *splitter) endFile() {
	e := storage.Entry{Type: storage.FileType, Size: s.file.size}
	if e.Size > 0 {
		e.Payload = s.crc.Sum(nil)
	}
	e.SetName(s.file.name)
	s.add(e)
	s.file = nil
}

func (s *splitter) add(e storage.Entry) {
	if s.err == nil {
		_, s.err = s.packer.AddEntry(e)
	}
}

func (s *splitter) close() error {
	s.endSegment()
	if s.err != nil {
		return s.err
	}
	return s.out.Flush()
}
