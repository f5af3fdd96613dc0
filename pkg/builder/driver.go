package builder

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"
	"golang.org/x/sys/unix"
)

// chooseDriver picks the storage driver for a graph root, and its options:
// the one whose layers are there already, else overlay where the kernel lets
// us, else overlay through FUSE, else vfs, which works everywhere and copies
// every file for every layer. A disk that is full or broken says nothing about
// drivers: that is an error.
func chooseDriver(root string) (name string, options []string, err error) {
	if layersIn(root, "vfs") && !layersIn(root, "overlay") {
		return "vfs", nil, nil
	}
	if err = tryOverlay(root); errors.Is(err, errNoWhiteout) {
		err = tryOverlay(root) // a disk that has failed once is not a reason to copy every file for good
	}
	if err == nil {
		return "overlay", nil, nil
	}
	if isDiskError(err) && (!errors.Is(err, errNoWhiteout) || layersIn(root, "overlay")) {
		return "", nil, err
	}
	fuse, err := exec.LookPath("fuse-overlayfs")
	if err == nil && unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil {
		return "overlay", []string{"overlay.mount_program=" + fuse}, nil
	}
	return "vfs", nil, nil
}

// errNoWhiteout is where a trial mount fails on file systems that overlay
// cannot use, with an error that a broken disk has, too.
var errNoWhiteout = errors.New("what a lower layer has cannot be removed")

func isDiskError(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO)
}

// canStage reports whether the store can take over a directory as a layer:
// the driver is the kernel's overlay, and keeps files as they are.
func canStage(store storage.Store) bool {
	if store.GraphDriverName() != "overlay" {
		return false
	}
	return !hasOption(store, func(name, value string) bool {
		return name == "mount_program" && value != "" || name == "force_mask" || name == "use_composefs"
	})
}

func usesComposefs(store storage.Store) bool {
	return hasOption(store, func(name, _ string) bool { return name == "use_composefs" })
}

// hasOption reports whether the store has such an option of its driver.
func hasOption(store storage.Store, is func(name, value string) bool) bool {
	return slices.ContainsFunc(store.GraphOptions(), func(o string) bool {
		name, value, _ := strings.Cut(o, "=")
		_, name, _ = strings.Cut(name, ".")
		return is(name, value)
	})
}

func layersIn(root, driver string) bool {
	_, err := os.Stat(filepath.Join(root, driver+"-layers", "layers.json"))
	return err == nil
}

// tryOverlay tries a mount. Kernels, sandboxes and file systems (NFS, another
// overlay) refuse it for too many reasons to ask for them.
func tryOverlay(root string) error {
	// It looks like a working layer, so that it is removed like one when this
	// process is killed meanwhile.
	if err := os.MkdirAll(worksIn(root), 0o700); err != nil {
		return err
	}
	wk, err := (&works{dir: worksIn(root)}).announce(stringid.GenerateRandomID())
	if err != nil {
		return err
	}
	defer wk.settle() //nolint:errcheck // the next build removes it
	join := func(d string) string { return filepath.Join(wk.scratch, d) }
	for _, d := range []string{"", "lower", "lower/dir", "upper", "work", "merged"} {
		if err := os.Mkdir(join(d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(join("lower/dir/file"), []byte("x"), 0o644); err != nil {
		return err
	}
	data := "lowerdir=" + join("lower") + ",upperdir=" + join("upper") + ",workdir=" + join("work")
	if os.Getuid() != 0 || inUserNamespace() {
		data += ",userxattr"
	}
	if err := unix.Mount("overlay", join("merged"), "overlay", 0, data); err != nil {
		return err
	}
	defer unix.Unmount(join("merged"), unix.MNT_DETACH)
	// Removing a directory of the lower layer makes whiteouts and marks of
	// directories: not every file system can hold them.
	if err := os.RemoveAll(join("merged/dir")); err != nil {
		return fmt.Errorf("%w: %w", errNoWhiteout, err)
	}
	return nil
}

func inUserNamespace() bool {
	ids, err := currentIdentity()
	return err == nil && ids.rootless
}
