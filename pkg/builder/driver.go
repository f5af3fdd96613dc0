package builder

import (
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
// every file for every layer.
func chooseDriver(root string) (name string, options []string) {
	if layersIn(root, "vfs") && !layersIn(root, "overlay") {
		return "vfs", nil
	}
	if overlayWorks(root) {
		return "overlay", nil
	}
	fuse, err := exec.LookPath("fuse-overlayfs")
	if err == nil && unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil {
		return "overlay", []string{"overlay.mount_program=" + fuse}
	}
	return "vfs", nil
}

// canStage reports whether the store can take over a directory as a layer:
// the driver is the kernel's overlay, and keeps files as they are.
func canStage(store storage.Store) bool {
	if store.GraphDriverName() != "overlay" {
		return false
	}
	return !slices.ContainsFunc(store.GraphOptions(), func(o string) bool {
		name, value, _ := strings.Cut(o, "=")
		_, name, _ = strings.Cut(name, ".")
		return name == "mount_program" && value != "" || name == "force_mask" || name == "use_composefs"
	})
}

func layersIn(root, driver string) bool {
	_, err := os.Stat(filepath.Join(root, driver+"-layers", "layers.json"))
	return err == nil
}

// overlayWorks tries a mount. Kernels, sandboxes and file systems (NFS,
// another overlay) refuse it for too many reasons to ask for them.
func overlayWorks(root string) bool {
	// It looks like a working layer, so that it is removed like one when this
	// process is killed meanwhile.
	if err := os.MkdirAll(worksIn(root), 0o700); err != nil {
		return false
	}
	wk, err := (&works{dir: worksIn(root)}).announce(stringid.GenerateRandomID())
	if err != nil {
		return false
	}
	defer wk.settle() //nolint:errcheck // the next build removes it
	dir := wk.scratch
	if err := os.Mkdir(dir, 0o700); err != nil {
		return false
	}
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return false
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lower", "file"), []byte("x"), 0o644); err != nil {
		return false
	}
	join := func(d string) string { return filepath.Join(dir, d) }
	data := "lowerdir=" + join("lower") + ",upperdir=" + join("upper") + ",workdir=" + join("work")
	if os.Getuid() != 0 || inUserNamespace() {
		data += ",userxattr"
	}
	if err := unix.Mount("overlay", join("merged"), "overlay", 0, data); err != nil {
		return false
	}
	defer unix.Unmount(join("merged"), unix.MNT_DETACH)
	// Removing a file of the lower layer makes a whiteout: not every file
	// system can hold one.
	return os.Remove(filepath.Join(join("merged"), "file")) == nil
}

func inUserNamespace() bool {
	ids, err := currentIdentity()
	return err == nil && ids.rootless
}
