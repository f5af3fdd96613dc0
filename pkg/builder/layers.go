package builder

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// This file is the one place where what a step has done becomes a layer of
// the store.

// keepTree makes a layer of a tree.
func (x *stepRun) keepTree(ctx context.Context, parent string, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	return x.keep(ctx, target{parent: parent}, tree, opt)
}

// keepDiff makes a layer of what a command has changed in a working layer.
func (x *stepRun) keepDiff(ctx context.Context, parent string, wk *work, opt layer.Options) (cache.Record, error) {
	opt = wk.differences(opt)
	tree, err := wk.changes()
	if err != nil {
		return cache.Record{}, err
	}
	rec, err := x.keep(ctx, target{parent: parent}, tree, opt)
	if err == nil {
		err = wk.unseen
	}
	return rec, err
}

// keep stores a layer, or takes the same one that is there already. No changes
// make no layer: then the record names the parent.
func (x *stepRun) keep(ctx context.Context, to target, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	r := x.run
	if tree.Len() == 0 {
		return cache.Record{Layer: to.parent}, nil
	}
	in, err := r.inspector(to.parent)
	if err != nil {
		return cache.Record{}, err
	}
	opt.Epoch, opt.Inspect = r.plan.time(), in
	var rec cache.Record
	if r.b.stages {
		rec, err = x.stageTree(ctx, to, tree, opt)
	} else {
		rec, err = x.encodeTree(ctx, to, tree, opt)
	}
	return r.noteOwners(rec, in, err)
}

// A target is the layer that a new one is put on.
type target struct {
	parent string
	// pack is the key of a layer of packages; see packLayers.
	pack string
}

// options describe the layer to the store.
func (t target) options() *storage.LayerOptions {
	opt := hostIDs()
	opt.Flags = map[string]any{ownFlag: true}
	if t.pack != "" {
		opt.Flags[packFlag] = t.pack
	}
	return opt
}

// stageTree makes the layer's files by hard links as far as possible. The
// store copies nothing: it takes over the directory.
func (x *stepRun) stageTree(ctx context.Context, to target, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	ids := x.run.b.ids
	return x.putStaged(ctx, to, &treeDiffer{tree: tree, opt: layer.StageOptions{Options: opt, SingleID: ids.single, NoDevices: ids.rootless}})
}

// A stagedDiffer can say, once it has made its files, that there are none.
type stagedDiffer interface {
	graphdriver.Differ
	empty() bool
}

// putStaged lets the store take over what a differ makes. Nothing makes no layer.
func (x *stepRun) putStaged(ctx context.Context, to target, d stagedDiffer) (_ cache.Record, err error) {
	b := x.run.b
	out, err := b.prepareLayer(to, d)
	if err != nil {
		return cache.Record{}, err
	}
	if d.empty() {
		return cache.Record{Layer: to.parent}, b.store.CleanupStagedLayer(out)
	}
	taken := true
	rec, err := x.makeLayer(ctx, layerContent{to, out.UncompressedDigest, out.Size}, func(id string) (*storage.Layer, error) {
		taken = false
		return b.applyLayer(to, id, out)
	})
	if taken {
		err = errors.Join(err, b.store.CleanupStagedLayer(out))
	}
	return rec, err
}

// prepareLayer has a differ make its files beside the store's layers.
func (b *Builder) prepareLayer(to target, d stagedDiffer) (*graphdriver.DriverWithDifferOutput, error) {
	out, err := b.store.PrepareStagedLayer(nil, d)
	if err == nil && !d.empty() && out.RootDirMode == nil {
		err = inheritRoot(b.store, to.parent, out.Target)
	}
	if err == nil {
		return out, nil
	}
	if out != nil && out.Target != "" {
		err = errors.Join(err, b.store.CleanupStagedLayer(out))
	}
	return nil, fmt.Errorf("make the layer: %w", err)
}

// applyLayer makes what was prepared a layer, or removes it.
func (b *Builder) applyLayer(to target, id string, out *graphdriver.DriverWithDifferOutput) (*storage.Layer, error) {
	l, err := b.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID: id, ParentLayer: to.parent, LayerOptions: to.options(), DiffOutput: out,
	})
	if err != nil {
		return nil, errors.Join(err, b.store.CleanupStagedLayer(out))
	}
	return l, nil
}

// hostIDs says that ids in a layer are those of our user namespace.
func hostIDs() *storage.LayerOptions {
	return &storage.LayerOptions{IDMappingOptions: storage.LayerIDMappingOptions{HostUIDMapping: true, HostGIDMapping: true}}
}

// ownFlag marks the layers of steps in a store that others use, too: no other
// layer is ever removed.
const ownFlag = "pdibuild"

// A treeDiffer gives a tree to the overlay driver; see graphdriver.Differ.
type treeDiffer struct {
	tree   *layer.Tree
	opt    layer.StageOptions
	staged *layer.Staged
}

// ApplyDiff makes the files of the layer in dest.
func (d *treeDiffer) ApplyDiff(dest string, _ *archive.TarOptions, opt *graphdriver.DifferOptions) (out graphdriver.DriverWithDifferOutput, err error) {
	split, err := atomicfile.Temporary(opt.StagingDirectory)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			_ = split.Close()
		}
	}()
	d.opt.Dir, d.opt.Split = dest, split
	if d.staged, err = d.tree.Stage(d.opt); err != nil {
		return out, err
	}
	return graphdriver.DriverWithDifferOutput{
		Differ: d, Size: d.staged.Size, UncompressedDigest: d.staged.DiffID,
		UIDs: d.staged.UIDs, GIDs: d.staged.GIDs, TarSplit: split, RootDirMode: d.staged.RootMode,
	}, nil
}

func (d *treeDiffer) empty() bool { return d.staged.Empty() }

// Close has nothing to do.
func (d *treeDiffer) Close() error { return nil }

// encodeTree makes a layer of a stream, which the store unpacks, copying every
// file. The stream is written twice: its digest is the layer's id.
func (x *stepRun) encodeTree(ctx context.Context, to target, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	sum := &measure{Digester: digest.Canonical.Digester()}
	stats, err := tree.Encode(sum, opt)
	if err != nil {
		return cache.Record{}, fmt.Errorf("make the layer: %w", err)
	}
	if stats.Empty() {
		return cache.Record{Layer: to.parent}, nil
	}
	opt.Inspect = nil // it has seen everything
	return x.makeLayer(ctx, layerContent{to, sum.Digest(), sum.size}, func(id string) (*storage.Layer, error) {
		return putStream(func(dst io.Writer) error {
			_, err := tree.Encode(dst, opt)
			return err
		}, func(src io.Reader) (*storage.Layer, error) {
			l, _, err := x.run.b.store.PutLayer(id, to.parent, nil, "", false, to.options(), src)
			return l, err
		})
	})
}

// A measure is the digest and the length of what is written to it.
type measure struct {
	digest.Digester
	size int64
}

// Write takes more.
func (m *measure) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.Hash().Write(p)
}

// putStream gives what write writes to put, which reads it.
func putStream(write func(io.Writer) error, put func(io.Reader) (*storage.Layer, error)) (*storage.Layer, error) {
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
	l, putErr := put(bufio.NewReaderSize(pr, 1<<16))
	_ = pr.CloseWithError(io.ErrClosedPipe)
	// What stopped the writer is the cause of what the store says.
	if err := <-written; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return nil, err
	}
	return l, putErr
}

// inspector looks at what goes into a layer.
func (r *run) inspector(parent string) (*inspector, error) {
	in := &inspector{scanner: r.secrets.Scanner(), ids: r.b.ids, single: r.b.ids.single, below: map[string]bool{}}
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
	ids     identity
	single  bool
	owners  []fileOwner
	// below are the files that others own in the layers below.
	below map[string]bool
}

// Entry searches the names and attributes of the next file.
func (l *inspector) Entry(hdr *tar.Header) error {
	l.name = filepath.Join("/", hdr.Name)
	if err := l.ids.check(ownerOf(l.name, hdr.Uid, hdr.Gid), hdr.Uid, hdr.Gid); err != nil {
		return err
	}
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
