package layer

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Normalize reads a layer from src and writes it to dst in canonical form.
// Entries have to come in canonical order, which is that of
// containers/storage where the driver knows its own differences (overlay), or
// Options.Scratch must be given. What has been written to dst before an error
// is worthless. Normalizing twice gives the same as normalizing once.
func Normalize(dst io.Writer, src io.Reader, opt Options) (Stats, error) {
	if opt.Scratch != nil {
		return normalizeSorted(dst, src, opt)
	}
	enc := newEncoder(dst, opt)
	if err := eachEntry(src, func(hdr *tar.Header, content io.Reader) error {
		return enc.add(hdr, content, Origin{})
	}); err != nil {
		return enc.stats, err
	}
	return enc.close()
}

func normalizeSorted(dst io.Writer, src io.Reader, opt Options) (Stats, error) {
	var tree Tree
	spool := spool{scratch: opt.Scratch}
	err := eachEntry(src, func(hdr *tar.Header, content io.Reader) error {
		p, err := placeOf(hdr.Name)
		if err != nil {
			return err
		}
		e := Entry{Header: *hdr}
		if hdr.Size > 0 && isRegular(hdr) {
			if e.Open, err = spool.keep(content); err != nil {
				return fmt.Errorf("layer entry %q: %w", hdr.Name, err)
			}
		}
		tree.put(p, e)
		return nil
	})
	if err != nil {
		return Stats{}, err
	}
	return tree.Encode(dst, opt)
}

// eachEntry reads src to its end, so that an error of the program at the other
// end of a pipe is not missed.
func eachEntry(src io.Reader, do func(*tar.Header, io.Reader) error) error {
	in := bufio.NewReaderSize(src, 128<<10)
	tr := tar.NewReader(in)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read a layer: %w", err)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := do(hdr, tr); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("read the end of a layer: %w", err)
	}
	return nil
}

// A spool keeps contents one after the other.
type spool struct {
	scratch Scratch
	size    int64
}

func (s *spool) keep(content io.Reader) (func() (io.ReadCloser, error), error) {
	n, err := io.Copy(s.scratch, content)
	if err != nil {
		return nil, fmt.Errorf("keep its content in a temporary file: %w", err)
	}
	from := s.size
	s.size += n
	return func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.scratch, from, n)), nil
	}, nil
}
