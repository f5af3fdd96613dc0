package imagetransfer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"
)

// What is read ahead is what would have been read, errors at the end included.
func TestReadAhead(t *testing.T) {
	noise := make([]byte, 5<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // never fails
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		from io.Reader
		err  error
	}{
		"whole":             {bytes.NewReader(noise), nil},
		"in small pieces":   {iotest.HalfReader(bytes.NewReader(noise)), nil},
		"end with the data": {iotest.DataErrReader(bytes.NewReader(noise)), nil},
		"broken":            {io.MultiReader(bytes.NewReader(noise), iotest.ErrReader(broken)), broken},
	} {
		t.Run(name, func(t *testing.T) {
			a := NewReadAhead(c.from)
			got, err := io.ReadAll(a)
			if !errors.Is(err, c.err) || !bytes.Equal(got, noise) {
				t.Errorf("%d bytes and %v, want %d and %v", len(got), err, len(noise), c.err)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Close returns when nobody reads the source any more, however much is left.
func TestReadAheadEnds(t *testing.T) {
	reading := make(chan struct{}, 100)
	from := readerFunc(func(p []byte) (int, error) {
		reading <- struct{}{}
		defer func() { <-reading }()
		time.Sleep(time.Millisecond)
		return len(p), nil
	})
	a := NewReadAhead(from)
	if _, err := io.ReadFull(a, make([]byte, 3*aheadSize)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(reading) > 0 {
		t.Error("the source is still being read")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
