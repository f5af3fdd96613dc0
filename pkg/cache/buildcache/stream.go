package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/registry"
)

// A Blob is content that is known by its digest.
type Blob struct {
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	MediaType string        `json:"media_type,omitempty"`

	path string // where layout 2 has it
}

// An opener opens a blob from offset on.
type opener func(ctx context.Context, offset int64) (io.ReadCloser, error)

// A stream reads a blob to its end although connections are cut: it goes on
// from where it was.
type stream struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has no other way to learn that its user gave up
	opener opener
	t      *registry.Transport

	body    io.ReadCloser
	cancel  context.CancelCauseFunc
	alarm   *time.Timer
	quiet   atomic.Bool // the alarm went off
	offset  int64
	failure int // failures in a row without progress
}

// openStream opens the blob at once, so that what is missing is known before
// anything is read.
func openStream(ctx context.Context, t *registry.Transport, open opener) (*stream, error) {
	s := &stream{ctx: ctx, opener: open, t: t}
	return s, s.connect(ctx)
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.body == nil {
			if err := s.connect(s.ctx); err != nil {
				return 0, err
			}
		}
		s.alarm.Reset(registry.Stalled)
		n, err := s.body.Read(p)
		s.alarm.Stop() // who uses what was read may take its time
		s.offset += int64(n)
		if n > 0 {
			s.failure = 0
			return n, nil // an error comes again
		}
		if err == nil {
			continue
		}
		if s.quiet.Load() {
			err = registry.ErrStalled
		}
		if err == io.EOF || !registry.IsTemporary(err) {
			return 0, err
		}
		s.disconnect(err)
		if err := s.t.Again(s.ctx, s.failure, err, fmt.Sprintf("going on from byte %d", s.offset)); err != nil {
			return 0, err
		}
		s.failure++
	}
}

func (s *stream) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	body, err := s.opener(ctx, s.offset)
	if err != nil {
		cancel(err)
		return err
	}
	s.body, s.cancel = body, cancel
	s.quiet.Store(false)
	s.alarm = time.AfterFunc(registry.Stalled, func() {
		s.quiet.Store(true)
		cancel(registry.ErrStalled)
	})
	s.alarm.Stop()
	return nil
}

func (s *stream) disconnect(reason error) {
	if s.body == nil {
		return
	}
	s.alarm.Stop()
	_ = s.body.Close()
	s.cancel(reason)
	s.body = nil
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.disconnect(context.Canceled)
	return nil
}

// A verifier passes a blob on and reports at its end that it is another one.
type verifier struct {
	io.ReadCloser
	blob Blob
	hash digest.Verifier
	size int64
}

func verified(b Blob, r io.ReadCloser) *verifier {
	return &verifier{ReadCloser: r, blob: b, hash: b.Digest.Verifier()}
}

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	_, _ = v.hash.Write(p[:n]) // a hash takes everything
	v.size += int64(n)
	switch {
	case v.blob.Size > 0 && v.size > v.blob.Size:
		return n, damaged(v.blob.Digest.String(), "is longer than %d bytes", v.blob.Size)
	case errors.Is(err, io.EOF) && v.blob.Size > 0 && v.size != v.blob.Size:
		return n, damaged(v.blob.Digest.String(), "has %d bytes instead of %d", v.size, v.blob.Size)
	case errors.Is(err, io.EOF) && !v.hash.Verified():
		return n, damaged(v.blob.Digest.String(), "its content has another digest")
	}
	return n, err
}

// readBlob returns a small blob, checked.
func readBlob(r io.ReadCloser, b Blob, limit int64) ([]byte, error) {
	defer r.Close()
	if b.Size > limit {
		return nil, damaged(b.Digest.String(), "its %d bytes are more than the %d that such a thing may have", b.Size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(verified(b, r), limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return data, nil
}
