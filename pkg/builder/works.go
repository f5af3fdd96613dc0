package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"
	"golang.org/x/sys/unix"
)

// works hands out working layers: writable layers in which a command runs and
// that are thrown away afterwards. Each has a file that its process keeps
// locked, so that those of a killed build are recognised and removed.
type works struct {
	store storage.Store
	dir   string
	once  sync.Once
	// single is set on a host with a single id.
	single bool
	// kept are the ids of working layers that stay although no process has
	// them locked.
	kept func() map[string]bool
}

// A work is one mounted working layer.
type work struct {
	owner *works
	id    string
	lock  *os.File
	// root is where the layer is mounted.
	root string
	// scratch is an empty directory for the worker's tmpfs.
	scratch string
	// parent is the layer below, and below that layer mounted by itself
	// once somebody has asked for it.
	parent string
	below  *work
	// files are those of the layers below, for looking at them.
	files *layerFiles
	// closed says that whoever could write to the layer is gone.
	closed bool
}

func openWorks(store storage.Store, dir string, single bool) (*works, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &works{store: store, dir: dir, single: single, kept: func() map[string]bool { return nil }}, nil
}

// create makes and mounts a working layer on parent ("" for an empty root).
func (w *works) create(parent string) (_ *work, err error) {
	w.once.Do(w.removeAbandoned)
	wk := &work{owner: w, id: stringid.GenerateRandomID(), parent: parent}
	wk.scratch = filepath.Join(w.dir, wk.id+".d")
	if wk.lock, err = lockNew(filepath.Join(w.dir, wk.id)); err != nil {
		return nil, fmt.Errorf("make a working layer: %w", err)
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
	if wk.root, err = w.store.Mount(wk.id, ""); err != nil {
		return nil, fmt.Errorf("mount the working layer: %w", err)
	}
	if w.single {
		return wk, wk.showOwners()
	}
	return wk, nil
}

// release unmounts and removes the working layer; it may be called twice.
func (wk *work) release() error {
	if wk.lock == nil {
		return nil
	}
	err := wk.owner.remove(wk.id)
	if wk.below != nil {
		err = errors.Join(err, wk.below.release())
	}
	_ = wk.lock.Close()
	wk.lock = nil
	return err
}

// lend makes a directory for what commands are to see besides the layer; it
// goes with the layer.
func (wk *work) lend() (string, error) {
	dir := filepath.Join(wk.owner.dir, wk.id+".lent")
	return dir, os.Mkdir(dir, 0o700)
}

func (w *works) remove(id string) error {
	var errs []error
	if w.store.Exists(id) {
		if _, err := w.store.Unmount(id, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) {
			errs = append(errs, err)
		}
		if err := w.store.DeleteLayer(id); err != nil && !errors.Is(err, storage.ErrLayerUnknown) {
			errs = append(errs, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(w.dir, id+".lent")); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, w.forget(id))
	}
	return errors.Join(errs...)
}

// forget removes what there is of a mounted working layer beside the layer
// itself.
func (w *works) forget(id string) error {
	if err := os.RemoveAll(filepath.Join(w.dir, id+".d")); err != nil {
		return err
	}
	return os.Remove(filepath.Join(w.dir, id))
}

// errBusy says that another process has a working layer.
var errBusy = errors.New("somebody else uses it now")

// adopt locks and mounts a working layer that was parked.
func (w *works) adopt(id string) (_ *work, err error) {
	wk := &work{owner: w, id: id, scratch: filepath.Join(w.dir, id+".d")}
	if wk.lock, err = os.OpenFile(filepath.Join(w.dir, id), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
		return nil, err
	}
	if unix.Flock(int(wk.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil, errors.Join(errBusy, wk.lock.Close())
	}
	l, err := w.store.Layer(id)
	if err == nil {
		wk.parent = l.Parent
		wk.root, err = w.store.Mount(id, "")
	}
	if err == nil {
		err = os.MkdirAll(wk.scratch, 0o700)
	}
	if err != nil {
		return nil, errors.Join(err, w.forget(id), wk.lock.Close())
	}
	return wk, nil
}

// park unmounts the working layer and leaves it for adopt.
func (wk *work) park() error {
	if wk.lock == nil {
		return nil
	}
	var errs []error
	if wk.below != nil {
		errs = append(errs, wk.below.release())
	}
	if _, err := wk.owner.store.Unmount(wk.id, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) {
		errs = append(errs, err)
	}
	errs = append(errs, wk.owner.forget(wk.id))
	_ = wk.lock.Close()
	wk.lock = nil
	return errors.Join(errs...)
}

// removeAbandoned clears up after builds that were killed. What cannot be
// removed now is tried again by the next build.
func (w *works) removeAbandoned() {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return
	}
	kept := w.kept()
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(w.dir, e.Name()), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		switch {
		case unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil: // somebody's
		case kept[e.Name()]:
			_ = w.forget(e.Name())
		default:
			_ = w.remove(e.Name())
		}
		_ = f.Close()
	}
}

func lockNew(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
