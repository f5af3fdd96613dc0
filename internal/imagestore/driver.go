package imagestore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// chooseDriver picks the storage driver for a graph root, and its options:
// the one whose layers are there already, else overlay where the kernel lets
// us, else overlay through FUSE, else vfs, which works everywhere and copies
// every file for every layer. A disk that is full or broken says nothing about
// drivers: that is an error.
func (opt Options) chooseDriver(root string) (name string, options []string, err error) {
	if layersIn(root, "vfs") && !layersIn(root, "overlay") {
		return "vfs", nil, nil
	}
	if err = opt.tryOverlay(root); errors.Is(err, errNoWhiteout) {
		err = opt.tryOverlay(root) // a disk that has failed once is not a reason to copy every file for good
	}
	if err == nil {
		return "overlay", nil, nil
	}
	mounted, recorded := usedMountProgram(root)
	switch full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT); {
	case full && recorded && !mounted:
		return "overlay", nil, nil // to remove something there has to be a store
	case full && recorded:
	case IsDiskError(err) && (!errors.Is(err, errNoWhiteout) || layersIn(root, "overlay")):
		return "", nil, err
	}
	fuse, err := exec.LookPath("fuse-overlayfs")
	if err == nil && unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil {
		return "overlay", []string{"overlay.mount_program=" + fuse}, nil
	}
	return "vfs", nil, nil
}

// usedMountProgram reports whether the layers of the store in root were mounted by
// a program, as the storage library notes it; recorded is false for a new store.
func usedMountProgram(root string) (used, recorded bool) {
	data, err := os.ReadFile(filepath.Join(root, "overlay", ".has-mount-program"))
	return strings.TrimSpace(string(data)) == "true", err == nil && len(data) > 0 && layersIn(root, "overlay")
}

// errNoWhiteout is where a trial mount fails on file systems that overlay
// cannot use, with an error that a broken disk has, too.
var errNoWhiteout = errors.New("what a lower layer has cannot be removed")

// CanStage reports whether the store can take over a directory as a layer:
// the driver is the kernel's overlay, and keeps files as they are.
func (s *Store) CanStage() bool {
	if s.GraphDriverName() != "overlay" {
		return false
	}
	return !s.UsesMountProgram() && !s.hasOption(func(name, _ string) bool { return name == "force_mask" || name == "use_composefs" })
}

// UsesMountProgram reports whether a program such as fuse-overlayfs, and not the
// kernel, mounts the layers.
func (s *Store) UsesMountProgram() bool {
	return s.hasOption(func(name, value string) bool { return name == "mount_program" && value != "" })
}

// UsesComposefs reports whether the driver keeps a layer's files by their
// digests, and not in the layer's directory.
func (s *Store) UsesComposefs() bool {
	return s.hasOption(func(name, _ string) bool { return name == "use_composefs" })
}

// hasOption reports whether the store has such an option of its driver.
func (s *Store) hasOption(is func(name, value string) bool) bool {
	return slices.ContainsFunc(s.GraphOptions(), func(o string) bool {
		name, value, _ := strings.Cut(o, "=")
		_, name, _ = strings.Cut(name, ".")
		return is(name, value)
	})
}

func layersIn(root, driver string) bool {
	_, err := os.Stat(filepath.Join(root, driver+"-layers", "layers.json"))
	return err == nil
}

// TryOverlay says why the kernel's overlay cannot be used on the store's disk;
// nil when it can be.
func (s *Store) TryOverlay() error { return s.try() }

// tryOverlay tries a mount. Kernels, sandboxes and file systems (NFS, another
// overlay) refuse it for too many reasons to ask for them.
func (opt Options) tryOverlay(root string) error {
	dir, remove, err := opt.Scratch(root)
	if err != nil {
		return err
	}
	defer remove()
	join := func(d string) string { return filepath.Join(dir, d) }
	for _, d := range []string{"lower", "lower/dir", "upper", "work", "merged"} {
		if err := os.Mkdir(join(d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(join("lower/dir/file"), []byte("x"), 0o644); err != nil {
		return err
	}
	data := "lowerdir=" + join("lower") + ",upperdir=" + join("upper") + ",workdir=" + join("work")
	if os.Getuid() != 0 || opt.UserNamespace {
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
