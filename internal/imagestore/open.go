package imagestore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage"

	_ "github.com/pdidev/pdibuild/internal/buildtags" // says how to build this
)

// Options say which store to open, and for whom. The zero value, but for
// Scratch, is the store that podman and buildah of the same user use.
type Options struct {
	// Root is the graph root. Empty means the user's default.
	Root string
	// RunRoot holds state that does not survive a reboot. Empty means the
	// default, or a directory in Root when Root is set.
	RunRoot string
	// Driver is overlay or vfs. Empty means the best one that works here.
	Driver string
	// SingleID says that there is one user id, which then owns every file;
	// UserNamespace, that this process is in another one than the host's.
	SingleID, UserNamespace bool
	// Scratch makes a directory in the graph root, which is not there yet for a
	// new store, to try mounts in, and says how to remove it. Somebody has to
	// remove it also when this process is killed. It is called when there is no
	// Driver, and by Store.TryOverlay.
	Scratch func(root string) (dir string, remove func(), err error)
	// Lost is called, once and from a goroutine of its own, when the store can
	// be used no more. May be nil.
	Lost func(*Error)
}

// An Error says what a store cannot be used for, and why.
type Error struct {
	// Op is "open" or, of a store that is lost, "work in".
	Op string
	// Root is the graph root.
	Root string
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s the image store at %s: %v", e.Op, e.Root, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Open opens a store, or gives the one that is open in this process. Its error
// is an *Error.
func Open(opt Options) (*Store, error) {
	so, err := opt.forLibrary()
	if err != nil {
		return nil, err
	}
	var lost func(error)
	if opt.Lost != nil {
		lost = func(err error) { opt.Lost(&Error{"work in", so.GraphRoot, err}) }
	}
	store, err := openShared(so, lost, func() error { return opt.tryOverlay(so.GraphRoot) })
	if err != nil {
		return nil, &Error{"open", so.GraphRoot, err}
	}
	return store, nil
}

// forLibrary are the options as the storage library has them, with a driver.
func (opt Options) forLibrary() (storage.StoreOptions, error) {
	so, err := storage.DefaultStoreOptions()
	if err != nil {
		return so, &Error{"open", opt.Root, err}
	}
	if opt.Root != "" {
		root, err := filepath.Abs(opt.Root)
		if err != nil {
			return so, &Error{"open", opt.Root, err}
		}
		so.GraphRoot, so.RunRoot = root, filepath.Join(root, "run")
	}
	if opt.RunRoot != "" {
		so.RunRoot = opt.RunRoot
	}
	if opt.Driver != "" {
		so.GraphDriverName = opt.Driver
		so.GraphDriverOptions = nil
	}
	if err := mountable(so.GraphRoot, so.GraphDriverName); err != nil {
		return so, &Error{"open", so.GraphRoot, err}
	}
	if so.GraphDriverName == "" {
		if so.GraphDriverName, so.GraphDriverOptions, err = opt.chooseDriver(so.GraphRoot); err != nil {
			return so, &Error{"open", so.GraphRoot, err}
		}
	}
	if opt.SingleID {
		// One id cannot own files for others. The tar headers that are kept
		// beside the layers still say who does.
		so.GraphDriverOptions = append(so.GraphDriverOptions, so.GraphDriverName+".ignore_chown_errors=true")
	}
	return so, nil
}

// mountable is an error for a root whose path cannot be in the options of an
// overlay's mount, which the storage library puts together without quoting, and
// explains by other causes when it fails. A store without overlay would be a
// slow one that nobody has chosen.
func mountable(root, driver string) error {
	i := strings.IndexAny(root, `,:\`)
	if i < 0 || driver != "overlay" && driver != "" || driver == "" && layersIn(root, "vfs") {
		return nil
	}
	return fmt.Errorf("its path has a %q, which an overlay's mount cannot have", root[i:i+1])
}

// forgetRefusal makes the storage library try the driver again. It remembers
// that it has failed beside the store, also when only the disk was full or
// broken at that time.
func forgetRefusal(so storage.StoreOptions) bool {
	driver := so.GraphDriverName
	return os.Remove(filepath.Join(so.RunRoot, driver, driver+"-false")) == nil
}
