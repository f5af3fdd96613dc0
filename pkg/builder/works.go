package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// works hands out working layers: writable layers in which a command runs and
// that are thrown away afterwards. Each has a file that its process keeps
// locked, so that those of a killed build are recognised and removed.
type works struct {
	store *imagestore.Store
	dir   string
	// single is set on a host with a single id.
	single bool
	// kept are the ids of working layers that stay although no process has
	// them locked, recorded those of layers that became results. Clear removes
	// what else killed builds leave.
	kept, recorded func() map[string]bool
	clear          func()
	// finished reports whether an image is the result of a build.
	finished func(image string) bool
	// noteOwners notes the owners of files in all layers of a chain.
	noteOwners func(top string) error

	mu sync.Mutex // guards what follows
	// process stands for this process; see begin. It stays when untidy.
	process *work
	untidy  bool
}

// A work is one mounted working layer.
type work struct {
	owner *works
	id    string
	lock  *os.File
	// root is the mounted layer; nil unless it is mounted.
	root *rootfs.Root
	// scratch is an empty directory for the worker's tmpfs.
	scratch string
	// parent is the layer below, and below that layer mounted by itself
	// once somebody has asked for it.
	parent string
	below  *work
	// files are those of the layers below, for looking at them, and upper is
	// where an overlay keeps the changes; nil before they are wanted.
	files *layerFiles
	upper *rootfs.Root
	// firstRoot is the root directory before a command ran.
	firstRoot *tar.Header
	// first is what all files were then; nil with overlay, which keeps the
	// changes apart.
	first snapshot
	// links are the owners of symbolic links and the like; nil before they
	// are wanted.
	links *linkOwners
	// unseen is why something could not be compared with what was there before.
	unseen error
	// closed says that whoever could write to the layer is gone.
	closed bool
	// shared is set for a reserved layer that the store had before, parked for the
	// container of a failed step.
	shared, parked bool
}

// worksIn is where the works of the store in root are.
func worksIn(root string) string { return filepath.Join(root, "pdibuild", "work") }

// trialDirectory makes a directory in the store at root, which may not be open
// yet, and says how to remove it. It looks like a working layer's, so that it is
// removed like one when this process is killed meanwhile.
func trialDirectory(root string) (dir string, remove func(), err error) {
	if err := os.MkdirAll(worksIn(root), 0o700); err != nil {
		return "", nil, err
	}
	wk, err := (&works{dir: worksIn(root)}).announce(stringid.GenerateRandomID())
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = wk.settle() } // what stays, the next build removes
	if err := os.Mkdir(wk.scratch, 0o755); err != nil {
		remove()
		return "", nil, err
	}
	return wk.scratch, remove, nil
}

func openWorks(store *imagestore.Store, dir string, single bool) (*works, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	none := func() map[string]bool { return nil }
	return &works{store: store, dir: dir, single: single, kept: none, recorded: none, clear: func() {}, finished: func(string) bool { return false }, noteOwners: func(string) error { return nil }}, nil
}

// begin is called before anything in the store is changed, and returns a
// directory for temporary files. As long as this process works in the store it
// holds a file, so that the next one knows when it was killed; what killed ones
// have left is removed here.
func (w *works) begin() (temporary string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process != nil {
		return w.process.scratch, nil
	}
	w.removeAbandoned()
	wk, err := w.announce(stringid.GenerateRandomID())
	if err != nil {
		return "", fmt.Errorf("begin to work in the store: %w", err)
	}
	if err := os.Mkdir(wk.scratch, 0o700); err != nil {
		return "", fmt.Errorf("begin to work in the store: %w", errors.Join(err, wk.release()))
	}
	w.process = wk
	return wk.scratch, nil
}

// end is the opposite of begin.
func (w *works) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil {
		return nil
	}
	if w.untidy {
		_ = w.process.lock.Close()
		w.process = nil
		return nil
	}
	err := w.process.release()
	w.process = nil
	return err
}

// leaveUntidy says that the host has failed, and so perhaps what cleans up, the
// library's own included: the next build clears up as after a kill.
func (w *works) leaveUntidy() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untidy = true
}

// announce holds the file of a layer that is going to be made. The layer is
// removed with release, or by the next build when this one is killed, unless
// settle was called or a record names it.
func (w *works) announce(id string) (*work, error) {
	f, err := lockfile.New(filepath.Join(w.dir, id))
	if err != nil {
		return nil, err
	}
	return &work{owner: w, id: id, lock: f, scratch: filepath.Join(w.dir, id+".d")}, nil
}

// reserve is announce for a layer whose id follows from its content: it waits
// until no other step, of this or another build, makes or removes the layer.
func (w *works) reserve(ctx context.Context, id string) (*work, error) {
	for cleared := false; ; cleared = true {
		f, err := lockfile.Lock(ctx, filepath.Join(w.dir, id))
		if err != nil {
			return nil, fmt.Errorf("wait for layer %.12s: %w", id, err)
		}
		wk := &work{owner: w, id: id, lock: f, scratch: filepath.Join(w.dir, id+".d")}
		info, err := f.Stat()
		if err == nil && info.Size() == 0 {
			_, err = f.WriteString(reservedMark)
		} else if err == nil && !cleared {
			// Its process was killed, perhaps before the layer was complete.
			_ = f.Close()
			w.removeAbandoned()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve layer %.12s: %w", id, errors.Join(err, f.Close()))
		}
		return wk, nil
	}
}

// tryReserve is reserve without waiting: it returns lockfile.ErrHeld.
func (w *works) tryReserve(id string) (*work, error) {
	f, err := lockfile.Try(filepath.Join(w.dir, id))
	if err != nil {
		return nil, err
	}
	return &work{owner: w, id: id, lock: f}, nil
}

// reservedMark is the content of a file that a process has held for a layer: a
// file that has it already was left by one that was killed.
const reservedMark = "reserved"

// settle leaves an announced layer to those who know it by its record.
func (wk *work) settle() error {
	err := wk.owner.forget(wk.id)
	_ = wk.lock.Close()
	wk.lock = nil
	return err
}

// create makes and mounts a working layer on parent ("" for an empty root).
func (w *works) create(parent string) (_ *work, err error) {
	if _, err := w.begin(); err != nil {
		return nil, err
	}
	wk, err := w.announce(stringid.GenerateRandomID())
	if err != nil {
		return nil, fmt.Errorf("make a working layer: %w", err)
	}
	wk.parent = parent
	if w.single {
		// A driver may copy the layer below, attributes included.
		if err := w.noteOwners(parent); err != nil {
			return nil, errors.Join(err, wk.release())
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, wk.release())
		}
	}()
	if err := os.Mkdir(wk.scratch, 0o700); err != nil {
		return nil, fmt.Errorf("make a working layer: %w", err)
	}
	if _, err := w.store.CreateLayer(wk.id, parent, nil, "", true, hostIDs()); err != nil {
		return nil, fmt.Errorf("make a working layer: %w", err)
	}
	if err := wk.mount(); err != nil {
		return nil, err
	}
	if w.single {
		if err := wk.showOwners(); err != nil {
			return wk, err
		}
	}
	if err := wk.beginRoot(); err != nil || w.store.GraphDriverName() == "overlay" {
		return wk, err
	}
	if wk.first, err = takeSnapshot(wk.root); err != nil {
		return wk, fmt.Errorf("look at the working layer: %w", err)
	}
	return wk, nil
}

// layerID is the store's id of the layer: that of a container if it has become
// one.
func (wk *work) layerID() string {
	if !wk.parked {
		return wk.id
	}
	if c := wk.owner.container(wk.id); c != nil {
		return c.LayerID
	}
	return wk.id
}

func (wk *work) mount() error {
	dir, err := wk.owner.store.Mount(wk.layerID(), "")
	if err != nil {
		return mountError(err)
	}
	wk.root, err = rootfs.Open(dir)
	return err
}

// leaveRoot lets go of the mounted layer, which is going to be unmounted.
func (wk *work) leaveRoot() {
	for _, r := range []*rootfs.Root{wk.root, wk.upper} {
		if r != nil {
			_ = r.Close() // it was only looked at
		}
	}
	if wk.files != nil {
		wk.files.close()
	}
}

// mountError is for an overlay that the kernel does not mount: the host is to
// blame, not the step. It leaves out what the library says after the directory,
// all of the overlay's, of which each has a name of 64 digits.
func mountError(err error) error {
	const op = "mount the working layer"
	if strings.Contains(err.Error(), "max depth exceeded") {
		return hostError(op, errors.New("the image has more than 500 layers, and overlay cannot mount so many"), hosthelp.ManyLayers)
	}
	before, rest, _ := strings.Cut(err.Error(), ", mount_data=")
	_, after, ok := strings.Cut(rest, `": `)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	err = &shortError{before + ": " + after, err}
	if imagestore.IsDiskError(err) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return hostError(op, err, hosthelp.Store)
}

// A shortError is another error in fewer words.
type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }

// release unmounts and removes the working layer; it may be called twice.
func (wk *work) release() error {
	if wk.lock == nil {
		return nil
	}
	wk.leaveRoot()
	if wk.shared {
		return wk.settle()
	}
	remove := wk.owner.removeUnused
	if wk.parked {
		remove = wk.owner.removeFailed
	}
	err := remove(wk.id)
	if wk.below != nil {
		err = errors.Join(err, wk.below.release())
	}
	_ = wk.lock.Close()
	wk.lock = nil
	return err
}

// lend makes a new directory for what commands are to see besides the layer; it
// goes with the layer.
func (wk *work) lend() (string, error) {
	dir := filepath.Join(wk.owner.dir, wk.id+".lent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, "")
}

func (w *works) remove(id string) error {
	var errs []error
	if _, err := w.store.Unmount(id, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) && !unknownLayer(err) {
		errs = append(errs, err)
	}
	if err := w.store.DeleteLayer(id); err != nil && !unknownLayer(err) {
		errs = append(errs, err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, id+".lent")); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, w.forget(id))
	}
	return errors.Join(errs...)
}

// removeUnused is remove, but leaves a layer that another program has taken
// meanwhile to that.
func (w *works) removeUnused(id string) error {
	err := w.remove(id)
	if inUse(err) {
		return w.forget(id)
	}
	return err
}

// removeFailed is remove for what may be the container of a failed step.
func (w *works) removeFailed(id string) error {
	return errors.Join(w.removeContainer(id), w.remove(id))
}

// inUse reports whether the store keeps a layer because something stands on it.
func inUse(err error) bool {
	return errors.Is(err, storage.ErrLayerHasChildren) || errors.Is(err, storage.ErrLayerUsedByImage) || errors.Is(err, storage.ErrLayerUsedByContainer)
}

// unknownLayer says that the storage library has no such layer.
func unknownLayer(err error) bool {
	return errors.Is(err, storage.ErrLayerUnknown) || errors.Is(err, storage.ErrNotALayer)
}

// forget removes what there is of a mounted working layer beside the layer
// itself.
func (w *works) forget(id string) error {
	if err := os.RemoveAll(filepath.Join(w.dir, id+".d")); err != nil {
		return err
	}
	return os.Remove(filepath.Join(w.dir, id))
}

// adopt locks and mounts a working layer that was parked.
func (w *works) adopt(id string) (_ *work, err error) {
	wk := &work{owner: w, id: id, parked: true, scratch: filepath.Join(w.dir, id+".d")}
	if wk.lock, err = lockfile.Try(filepath.Join(w.dir, id)); err != nil {
		return nil, err
	}
	l, err := w.store.Layer(wk.layerID())
	if err == nil {
		wk.parent = l.Parent
		err = wk.mount()
	}
	if err == nil {
		err = os.MkdirAll(wk.scratch, 0o700)
	}
	if err != nil {
		wk.leaveRoot()
		return nil, errors.Join(err, w.forget(id), wk.lock.Close())
	}
	return wk, nil
}

// park unmounts the working layer and leaves it for adopt.
func (wk *work) park() error {
	if wk.lock == nil {
		return nil
	}
	wk.leaveRoot()
	var errs []error
	if wk.below != nil {
		errs = append(errs, wk.below.release())
	}
	if _, err := wk.owner.store.Unmount(wk.layerID(), true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) {
		errs = append(errs, err)
	}
	errs = append(errs, wk.owner.finishPark(wk.id))
	_ = wk.lock.Close()
	wk.lock = nil
	return errors.Join(errs...)
}

// finishPark forgets a parked working layer, and removes it if its files were moved
// into a container.
func (w *works) finishPark(id string) error {
	if w.container(id) != nil {
		if err := w.store.DeleteLayer(id); err != nil && !unknownLayer(err) {
			return err
		}
	}
	return w.forget(id)
}

// removeAbandoned clears up after builds that were killed. What cannot be
// removed now is tried again by the next build.
func (w *works) removeAbandoned() {
	kept := w.kept()
	recorded := sync.OnceValue(w.recorded)
	// The files of killed builds go last, so that to be killed here changes
	// nothing.
	clearOnce := sync.OnceFunc(w.clear)
	left := 0
	clearOne := func(remove func(id string) error) func(id string) {
		return func(id string) {
			clearOnce()
			do := remove
			if kept[id] {
				do = w.finishPark
			} else if recorded()[id] {
				do = w.forget
			}
			if do(id) != nil {
				left++
			}
		}
	}
	// A layer can be removed when none is on top of it any more.
	for before := -1; before != left; {
		before, left = left, 0
		lockfile.Abandoned(w.dir, nil, clearOne(w.removeFailed))
	}
	if left > 0 {
		// What is in use then was taken by another program.
		lockfile.Abandoned(w.dir, nil, clearOne(w.removeUnused))
	}
}

// A bench holds the working layer of a stage for the next step, as long as
// steps leave the stage's files as they are: making one takes longer than
// many a command.
type bench struct {
	owner *works
	wk    *work
}

// take returns a clean working layer on parent.
func (b *bench) take(parent string) (*work, error) {
	wk := b.wk
	b.wk = nil
	if wk != nil && wk.parent == parent {
		wk.closed = false
		return wk, nil
	}
	if wk != nil {
		if err := wk.release(); err != nil {
			return nil, err
		}
	}
	return b.owner.create(parent)
}

// give takes a working layer back. One that is not clean is thrown away.
func (b *bench) give(wk *work, clean bool) error {
	if !clean || b.wk != nil {
		return wk.release()
	}
	b.wk = wk
	return nil
}

// clear throws away what is held.
func (b *bench) clear() error {
	if b.wk == nil {
		return nil
	}
	wk := b.wk
	b.wk = nil
	return wk.release()
}
