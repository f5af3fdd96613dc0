package layer

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// An encoder writes entries, which come in canonical order, in canonical form.
type encoder struct {
	opt   Options
	tar   *tar.Writer
	flush func() error // of what is between tar and the destination; may be nil
	// stage makes the files as well, if it is not nil; then the stream goes
	// to record.
	stage  *stager
	record *recorder
	buf    []byte
	stats  Stats

	skip skipper
	last place
	some bool // last is set
	// leaf is the last entry that nothing can be below.
	leaf string
	// held are directories, each inside the one before, that have not been
	// written because nothing below them has.
	held []*tar.Header
	// files are the names to which a hard link can point.
	files map[string]struct{}
}

func newEncoder(dst io.Writer, opt Options) *encoder {
	out := bufio.NewWriterSize(dst, 256<<10)
	return &encoder{
		opt: opt, tar: tar.NewWriter(out), flush: out.Flush, buf: make([]byte, 128<<10),
		skip: skipper{ask: opt.Skip}, files: map[string]struct{}{},
	}
}

// newStagingEncoder writes to record, and lets stage make the files.
func newStagingEncoder(record *recorder, stage *stager) *encoder {
	return &encoder{
		opt: stage.opt.Options, tar: tar.NewWriter(record), buf: make([]byte, 512<<10),
		stage: stage, record: record,
		skip: skipper{ask: stage.opt.Skip}, files: map[string]struct{}{},
	}
}

// add takes the next entry. Content is read for regular files only; origin is
// of use to a stage only.
func (e *encoder) add(src *tar.Header, content io.Reader, origin Origin) error {
	p, err := placeOf(src.Name)
	if err != nil {
		return err
	}
	if p.name == "" {
		return nil // the root directory
	}
	if err := e.advance(p); err != nil {
		return err
	}
	if e.skip.drops(p) || e.hidesNothing(p) {
		return nil
	}
	hdr, err := e.header(src, p)
	if err != nil {
		return err
	}
	if err := e.settle(p); err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeDir {
		e.held = append(e.held, hdr)
		return nil
	}
	if err := e.flushHeld(); err != nil {
		return err
	}
	return e.write(hdr, content, origin)
}

// addRoot writes the entry of the root directory, which comes first.
func (e *encoder) addRoot(src *tar.Header) error {
	hdr, err := e.attributes(src, place{name: "."})
	if err != nil {
		return err
	}
	return e.write(hdr, nil, Origin{})
}

func (e *encoder) hidesNothing(p place) bool {
	return p.whiteout && path.Base(p.name) != opaqueName && e.opt.Hides != nil && !e.opt.Hides(p.subject)
}

func (e *encoder) advance(p place) error {
	if e.some && e.last.compare(p) >= 0 {
		return &OrderError{Name: p.name, After: e.last.name}
	}
	e.last, e.some = p, true
	return nil
}

func (e *encoder) header(src *tar.Header, p place) (*tar.Header, error) {
	if e.leaf != "" && p.isBelow(e.leaf) {
		return nil, fmt.Errorf("layer entry %q: %q is not a directory", src.Name, e.leaf)
	}
	hdr, err := e.attributes(src, p)
	if err != nil {
		return nil, err
	}
	if p.whiteout || hdr.Typeflag == tar.TypeDir {
		return hdr, nil
	}
	e.leaf = p.name
	if hdr.Typeflag != tar.TypeLink {
		e.files[p.name] = struct{}{}
		return hdr, nil
	}
	if _, ok := e.files[hdr.Linkname]; !ok {
		return nil, fmt.Errorf("hard link %q: no file %q comes before it in this layer", src.Name, hdr.Linkname)
	}
	return hdr, nil
}

// attributes returns the header with which an entry is written.
func (e *encoder) attributes(src *tar.Header, p place) (*tar.Header, error) {
	hdr, err := canonical(src, p, e.opt.Epoch)
	if err != nil {
		return nil, err
	}
	if e.opt.OneTime {
		hdr.ModTime = clamp(e.opt.Epoch, e.opt.Epoch)
	}
	if e.opt.Owner != nil && !p.whiteout {
		e.opt.Owner(hdr)
	}
	return hdr, nil
}

// settle decides about the held directories in which next is not: they are
// complete.
func (e *encoder) settle(next place) error {
	for len(e.held) > 0 {
		top := e.held[len(e.held)-1]
		if next.isBelow(strings.TrimSuffix(top.Name, "/")) {
			return nil
		}
		if e.opt.Changed == nil || e.opt.Changed(top) {
			return e.flushHeld()
		}
		e.held = e.held[:len(e.held)-1]
	}
	return nil
}

func (e *encoder) flushHeld() error {
	for _, hdr := range e.held {
		if err := e.write(hdr, nil, Origin{}); err != nil {
			return err
		}
	}
	e.held = e.held[:0]
	return nil
}

func (e *encoder) write(hdr *tar.Header, content io.Reader, origin Origin) error {
	if e.opt.Inspect != nil {
		if err := e.opt.Inspect.Entry(hdr); err != nil {
			return fmt.Errorf("layer entry %q: %w", hdr.Name, err)
		}
	}
	if err := e.tar.WriteHeader(hdr); err != nil {
		return fmt.Errorf("layer entry %q: write its header: %w", hdr.Name, err)
	}
	e.stats.Entries++
	if err := e.writeContent(hdr, content, origin); err != nil {
		return fmt.Errorf("layer entry %q: %w", hdr.Name, err)
	}
	e.stats.Bytes += hdr.Size
	return nil
}

func (e *encoder) writeContent(hdr *tar.Header, content io.Reader, origin Origin) (err error) {
	if e.isByteCode(hdr) {
		var changed bool
		if content, changed, err = clampByteCode(content, e.opt); err != nil {
			return err
		}
		if changed {
			origin = Origin{}
		}
	}
	if e.stage == nil {
		if hdr.Size == 0 {
			return nil
		}
		return e.copyContent(hdr, content, nil)
	}
	file, err := e.stage.place(hdr, origin)
	if err != nil {
		return err
	}
	if file != nil {
		defer func() { err = errors.Join(err, file.Close()) }()
	}
	e.record.begin(hdr.Name, hdr.Size)
	defer e.record.end()
	if hdr.Size == 0 {
		return nil
	}
	return e.copyContent(hdr, content, file)
}

// copyContent writes the content to the stream and, if file is not nil, there.
func (e *encoder) copyContent(hdr *tar.Header, content io.Reader, file io.Writer) error {
	to := []io.Writer{e.tar}
	if file != nil {
		to = append(to, file)
	}
	if e.opt.Inspect != nil {
		to = append([]io.Writer{e.opt.Inspect}, to...)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, struct{ io.Reader }{content}, e.buf)
	switch {
	case errors.Is(err, tar.ErrWriteTooLong):
		return fmt.Errorf("the file has grown beyond %d bytes while it was read", hdr.Size)
	case err != nil:
		return err
	case n != hdr.Size:
		return fmt.Errorf("the file has shrunk from %d to %d bytes while it was read", hdr.Size, n)
	}
	return nil
}

// close ends the stream.
func (e *encoder) close() (Stats, error) {
	if err := e.settle(place{}); err != nil {
		return e.stats, err
	}
	if err := e.tar.Close(); err != nil {
		return e.stats, fmt.Errorf("end the layer: %w", err)
	}
	if e.flush != nil {
		if err := e.flush(); err != nil {
			return e.stats, fmt.Errorf("end the layer: %w", err)
		}
	}
	return e.stats, nil
}

// A skipper applies Options.Skip to entries in canonical order.
type skipper struct {
	ask  func(string) bool
	root string // everything below has been dropped, if not empty
}

func (s *skipper) drops(p place) bool {
	if s.ask == nil {
		return false
	}
	if s.root != "" && p.isBelow(s.root) {
		return true
	}
	s.root = ""
	if !s.ask(p.subject) {
		return false
	}
	s.root = p.subject
	return true
}
