package builder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// This file is the one place where what a step has done becomes a layer of
// the store.

// A layerWriter writes one canonical layer stream.
type layerWriter func(dst io.Writer) error

// keepTree makes a layer of a tree.
func (r *run) keepTree(parent string, tree *layer.Tree) (cache.Record, error) {
	return r.keep(parent, func(dst io.Writer) error {
		_, err := tree.Encode(dst, layer.Options{Epoch: r.plan.time(), Inspect: r.inspector()})
		return err
	})
}

// keepDiff makes a layer of what a command has changed in a working layer.
func (r *run) keepDiff(parent string, wk *work, opt layer.Options) (cache.Record, error) {
	opt.Epoch, opt.Inspect = r.plan.time(), r.inspector()
	return r.keep(parent, func(dst io.Writer) error { return wk.encodeDiff(dst, opt) })
}

// keep stores the stream as a layer on top of parent. A stream without
// entries makes no layer: then the record names parent.
func (r *run) keep(parent string, write layerWriter) (cache.Record, error) {
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		buffered := bufio.NewWriterSize(pw, 1<<20)
		err := write(buffered)
		if err == nil {
			err = buffered.Flush()
		}
		_ = pw.CloseWithError(err)
		written <- err
	}()
	rec, putErr := r.put(parent, pr)
	_ = pr.CloseWithError(io.ErrClosedPipe)
	// What stopped the writer is the cause of what the store says.
	if err := <-written; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return cache.Record{}, errors.Join(err, r.forget(rec))
	}
	if putErr != nil {
		return cache.Record{}, fmt.Errorf("store the layer: %w", putErr)
	}
	return rec, nil
}

func (r *run) put(parent string, stream io.Reader) (cache.Record, error) {
	in := bufio.NewReaderSize(stream, 1<<16)
	first, err := in.Peek(512)
	if err != nil {
		return cache.Record{}, err
	}
	if bytes.Count(first, []byte{0}) == len(first) { // the end of an archive
		_, err := io.Copy(io.Discard, in)
		return cache.Record{Layer: parent}, err
	}
	opt := &storage.LayerOptions{IDMappingOptions: storage.LayerIDMappingOptions{HostUIDMapping: true, HostGIDMapping: true}}
	l, _, err := r.b.store.PutLayer("", parent, nil, "", false, opt, in)
	if err != nil {
		return cache.Record{}, err
	}
	return cache.Record{Layer: l.ID, DiffID: l.UncompressedDigest.String(), Added: true}, nil
}

// forget removes a layer that must not be kept.
func (r *run) forget(rec cache.Record) error {
	if !rec.Added {
		return nil
	}
	return r.b.store.DeleteLayer(rec.Layer)
}

// inspector searches what goes into a layer for the values of secrets.
func (r *run) inspector() layer.Inspector {
	return &leakInspector{scanner: r.secrets.Scanner()}
}

type leakInspector struct {
	scanner *secret.Scanner
	name    string
}

// Entry searches the names and attributes of the next file.
func (l *leakInspector) Entry(hdr *tar.Header) error {
	l.name = filepath.Join("/", hdr.Name)
	texts := []string{hdr.Name, hdr.Linkname}
	for k, v := range hdr.PAXRecords {
		texts = append(texts, k, v)
	}
	for _, t := range texts {
		l.scanner.Reset()
		if _, err := l.Write([]byte(t)); err != nil {
			return err
		}
	}
	l.scanner.Reset()
	return nil
}

// Write searches content.
func (l *leakInspector) Write(p []byte) (int, error) {
	if _, err := l.scanner.Write(p); err != nil {
		return 0, err
	}
	if hit, ok := l.scanner.Hit(); ok {
		return 0, &LeakError{SecretID: hit.ID, Where: "file " + l.name, Form: hit.Form}
	}
	return len(p), nil
}

// farFuture is a time that pkg/layer clamps to the epoch.
var farFuture = time.Unix(1<<40, 0)
