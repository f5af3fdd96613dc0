package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// makeWorkdir makes the working directory that a base image names and no layer
// has, for a command. Like Buildah's it belongs to the command's user and stays.
func (b *Builder) makeWorkdir(root *rootfs.Root, dir string, uid, gid int) (err error) {
	if dir == "" || (&rootView{Root: root}).isDir(dir) {
		return nil
	}
	f, made, err := root.Make(dir, true)
	for _, m := range made {
		err = errors.Join(err, b.giveMade(m, uid, gid), m.Close())
	}
	if err != nil {
		return &InputError{Subject: "working directory " + dir, Err: err, Hint: "the base image names it, and it cannot be made; set another one with 'workdir:'"}
	}
	return f.Close()
}

func (b *Builder) giveMade(m rootfs.Made, uid, gid int) error {
	err := unix.Fchmodat(int(m.Dir.Fd()), m.Name, 0o755, 0) // whatever the umask is
	switch {
	case err != nil:
		return err
	case b.ids.single:
		return ownership.Set(fmt.Sprintf("/proc/self/fd/%d/%s", m.Dir.Fd(), m.Name), uid, gid)
	}
	return unix.Fchownat(int(m.Dir.Fd()), m.Name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// addWorkdir adds the working directory, unless it is there. It and the
// directories above it that were missing belong to the user of the steps that
// follow, as with Buildah and BuildKit.
func addWorkdir(view *rootView, tree *layer.Tree, config v1.ImageConfig) error {
	dir := config.WorkingDir
	if view.isDir(dir) {
		return nil
	}
	uid, gid, err := view.owner(config.User)
	if err != nil {
		return err
	}
	if err := addDirectory(view, tree, dir, uid, gid); err != nil {
		return err
	}
	to, err := view.Resolve(dir)
	if err != nil {
		return err
	}
	c := &copier{tree: tree, uid: uid, gid: gid, mode: -1}
	for to = path.Dir(to); to != "/"; to = path.Dir(to) {
		switch _, err := view.header(to); {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := c.add(layer.Entry{Header: directory(to, 0o755)}); err != nil {
			return err
		}
	}
	return nil
}
