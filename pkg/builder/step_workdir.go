package builder

import (
	"errors"
	"io/fs"
	"path"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/pkg/layer"
)

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
