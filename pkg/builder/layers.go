package builder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/stringid"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// This file is the one place where what a step has done becomes a layer of
// the store.

// keepTree makes a layer of a tree.
func (x *stepRun) keepTree(parent string, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	return x.keep(target{parent: parent}, tree, opt)
}

// keepDiff makes a layer of what a command has changed in a working layer.
func (x *stepRun) keepDiff(parent string, wk *work, opt layer.Options) (cache.Record, error) {
	opt = wk.differences(opt)
	tree, err := wk.changes()
	if err != nil {
		return cache.Record{}, err
	}
	rec, err := x.keep(target{parent: parent}, tree, opt)
	if err == nil {
		err = wk.unseen
	}
	return rec, err
}

// keep stores a layer. No changes make no layer: then the record names the
// parent. The layer is announced until the step is recorded.
func (x *stepRun) keep(to target, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	r := x.run
	if tree.Len() == 0 {
		return cache.Record{Layer: to.parent}, nil
	}
	in, err := r.inspector(to.parent)
	if err != nil {
		return cache.Record{}, err
	}
	opt.Epoch, opt.Inspect = r.plan.time(), in
	if err := x.announce(&to); err != nil {
		return cache.Record{}, err
	}
	var rec cache.Record
	if r.b.stages {
		rec, err = r.stageTree(to, tree, opt)
	} else {
		rec, err = r.putStream(to, func(dst io.Writer) error {
			_, err := tree.Encode(dst, opt)
			return err
		})
	}
	return r.noteOwners(rec, in, err)
}

// announce gives a layer that is going to be made its id.
func (x *stepRun) announce(to *target) error {
	made, err := x.run.b.works.announce(stringid.GenerateRandomID())
	if err != nil {
		return fmt.Errorf("make the layer: %w", err)
	}
	x.made = append(x.made, made)
	to.id = made.id
	return nil
}

// A target is the id that a new layer gets, and the layer that it is put on.
type target struct {
	id, parent string
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

// settle ends the making of a step's layers: recorded ones stay, others go.
func (x *stepRun) settle(recorded bool) error {
	var errs []error
	for _, made := range slices.Backward(x.made) {
		if recorded {
			_ = made.settle() // the next build does it
		} else {
			errs = append(errs, made.release())
		}
	}
	x.made = nil
	return errors.Join(errs...)
}

// stageTree makes the layer's files by hard links as far as possible. The
// store copies nothing: it takes over the directory.
func (r *run) stageTree(to target, tree *layer.Tree, opt layer.Options) (cache.Record, error) {
	return r.putStaged(to, &treeDiffer{tree: tree, opt: layer.StageOptions{Options: opt, SingleID: r.b.ids.single, NoDevices: r.b.ids.rootless}})
}

// A stagedDiffer can say, once it has made its files, that there are none.
type stagedDiffer interface {
	graphdriver.Differ
	empty() bool
}

// putStaged lets the store take over what a differ makes. Nothing makes no layer.
func (r *run) putStaged(to target, d stagedDiffer) (cache.Record, error) {
	out, err := r.b.store.PrepareStagedLayer(nil, d)
	if err == nil && !d.empty() && out.RootDirMode == nil {
		err = inheritRoot(r.b.store, to.parent, out.Target)
	}
	if err != nil || d.empty() {
		if out != nil && out.Target != "" {
			err = errors.Join(err, r.b.store.CleanupStagedLayer(out))
		}
		if err != nil {
			return cache.Record{}, fmt.Errorf("make the layer: %w", err)
		}
		return cache.Record{Layer: to.parent}, nil
	}
	l, err := r.b.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID: to.id, ParentLayer: to.parent, LayerOptions: to.options(), DiffOutput: out,
	})
	if err != nil {
		return cache.Record{}, fmt.Errorf("store the layer: %w", errors.Join(err, r.b.store.CleanupStagedLayer(out)))
	}
	return cache.Record{Layer: l.ID, DiffID: l.UncompressedDigest.String(), Added: true}, nil
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

// putStream lets the store unpack a stream, which copies every file.
func (r *run) putStream(to target, write func(io.Writer) error) (cache.Record, error) {
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
	rec, putErr := r.put(to, pr)
	_ = pr.CloseWithError(io.ErrClosedPipe)
	// What stopped the writer is the cause of what the store says.
	if err := <-written; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return cache.Record{}, err
	}
	if putErr != nil {
		return cache.Record{}, fmt.Errorf("store the layer: %w", putErr)
	}
	return rec, nil
}

func (r *run) put(to target, stream io.Reader) (cache.Record, error) {
	in := bufio.NewReaderSize(stream, 1<<16)
	first, err := in.Peek(512)
	if err != nil {
		return cache.Record{}, err
	}
	if bytes.Count(first, []byte{0}) == len(first) { // the end of an archive
		_, err := io.Copy(io.Discard, in)
		return cache.Record{Layer: to.parent}, err
	}
	l, _, err := r.b.store.PutLayer(to.id, to.parent, nil, "", false, to.options(), in)
	if err != nil {
		return cache.Record{}, err
	}
	return cache.Record{Layer: l.ID, DiffID: l.UncompressedDigest.String(), Added: true}, nil
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
