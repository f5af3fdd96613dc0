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
	in, err := r.inspector(parent)
	if err != nil {
		return cache.Record{}, err
	}
	rec, err := r.keep(parent, func(dst io.Writer) error {
		_, err := tree.Encode(dst, layer.Options{Epoch: r.plan.time(), Inspect: in})
		return err
	})
	return r.noteOwners(rec, in, err)
}

// keepDiff makes a layer of what a command has changed in a working layer.
func (r *run) keepDiff(parent string, wk *work, opt layer.Options) (cache.Record, error) {
	in, err := r.inspector(parent)
	if err != nil {
		return cache.Record{}, err
	}
	opt.Epoch, opt.Inspect = r.plan.time(), in
	rec, err := r.keep(parent, func(dst io.Writer) error { return wk.encodeDiff(dst, opt) })
	return r.noteOwners(rec, in, err)
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

// inspector looks at what goes into a layer.
func (r *run) inspector(parent string) (*inspector, error) {
	in := &inspector{scanner: r.secrets.Scanner(), single: r.b.ids.single, below: map[string]bool{}}
	if !in.single {
		return in, nil
	}
	owners, err := ownersOf(r.b.store, parent)
	for _, o := range owners {
		in.below[o.Name] = true
	}
	return in, err
}

// An inspector searches a layer for the values of secrets and, on a host with
// a single id, collects whose files they are.
type inspector struct {
	scanner *secret.Scanner
	name    string
	single  bool
	owners  []fileOwner
	// below are the files that others own in the layers below.
	below map[string]bool
}

// Entry searches the names and attributes of the next file.
func (l *inspector) Entry(hdr *tar.Header) error {
	l.name = filepath.Join("/", hdr.Name)
	if l.single {
		l.owners = appendOwner(l.owners, hdr, l.below)
	}
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
func (l *inspector) Write(p []byte) (int, error) {
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
