package buildcontext

import (
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// String names the files in messages.
func (c *Source) String() string {
	if len(c.Files) == 0 {
		return "the directory"
	}
	return c.Files[0].Path
}

// Write writes the files of a context below a directory of a root.
func (c *Source) Write(context string, root *rootfs.Root, dir string) error {
	for i := range c.Files {
		if err := c.Files[i].write(context, root, path.Join(dir, c.Files[i].Rel)); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) write(context string, root *rootfs.Root, name string) (err error) {
	switch mode := f.mode; {
	case mode.IsDir():
		return root.MkdirAll(name)
	case mode&fs.ModeSymlink != 0:
		return root.Symlink(f.Link, name)
	}
	src, err := f.Open(context)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := root.Create(name, 0o644|f.mode.Perm()&0o111)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	_, err = io.Copy(dst, src)
	return err
}
