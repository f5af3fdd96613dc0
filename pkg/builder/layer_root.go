package builder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/imagestore"
)

// A layerRoot reads the files of a layer's directory as a process would whose
// root that is. The names come from whoever made the image: the storage
// library's own reader joins them with the directory and follows whatever is
// there, so that "../../etc/shadow" and a link to /etc are files of the host.
type layerRoot struct {
	dir *os.File
	// lower are the directories of the layers below: one that was made from
	// another layer, as podman does for users with ids of their own, has its
	// files there.
	lower []string
}

// openLayerRoot opens the directory that has a layer's files; errNoSplit says
// that this driver keeps them in another way.
func openLayerRoot(store *imagestore.Store, id string) (*layerRoot, error) {
	var dir string
	var lower []string
	switch driver := store.GraphDriverName(); {
	case driver == "vfs":
		dir = filepath.Join(store.GraphRoot(), "vfs", "dir", id)
	case driver == "overlay" && !store.UsesComposefs():
		graph, err := store.GraphDriver()
		if err != nil {
			return nil, err
		}
		meta, err := graph.Metadata(id)
		if err != nil {
			return nil, err
		}
		dir, lower = meta["UpperDir"], filepath.SplitList(meta["LowerDir"])
	}
	if dir == "" {
		return nil, errNoSplit
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &layerRoot{f, lower}, nil
}

// Get opens a regular file.
func (r *layerRoot) Get(name string) (io.ReadCloser, error) {
	// O_PATH has no effect on a device or a pipe.
	fd, err := findIn(r.dir, name)
	for i := 0; errors.Is(err, unix.ENOENT) && i < len(r.lower); i++ {
		below, openErr := os.Open(r.lower[i])
		if openErr != nil {
			break
		}
		fd, err = findIn(below, name)
		_ = below.Close() // it was only read
	}
	if err != nil {
		return nil, &os.PathError{Op: "open in the layer", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "look at", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open in the layer", Path: name, Err: errors.New("it is no regular file any more")}
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func findIn(root *os.File, name string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 100 {
		// EAGAIN says that a directory was renamed meanwhile.
		if fd, err = unix.Openat2(int(root.Fd()), path.Clean("/"+name), &how); !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

// Close closes the directory.
func (r *layerRoot) Close() error { return r.dir.Close() }
