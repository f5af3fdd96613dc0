package buildcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A place is a directory of this host that is open. An os.Root is one that no
// link leads out of. Names have slashes and are relative.
type place interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	Chtimes(name string, access, modified time.Time) error
	MkdirAll(name string, perm fs.FileMode) error
	Remove(name string) error
	FS() fs.FS
	Close() error
}

// enter opens the directory for one operation.
func (l localFiles) enter() (place, error) {
	if l.confined {
		return os.OpenRoot(l.root)
	}
	return ownPlace(l.root), nil
}

// explain says why a name cannot be used. What is behind a link that leads out
// of a confined cache is not in it.
func (l localFiles) explain(t place, name string, err error) error {
	if link := linkIn(t, name); l.confined && link != "" {
		return fmt.Errorf("%w: %s is a symbolic link, which is not followed in this cache: remove it", ErrNotFound, filepath.Join(l.root, link))
	}
	if errors.Is(err, rootfs.ErrNotRegular) {
		return damaged(name, "it is not a regular file")
	}
	return notFound(err)
}

// linkIn returns the first part of a name that is a symbolic link, or "".
func linkIn(t place, name string) string {
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if info, err := t.Lstat(name[:i]); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return name[:i]
		}
	}
	return ""
}

// An ownPlace is a directory of the user, whose links may lead anywhere.
type ownPlace string

func (p ownPlace) path(name string) string {
	return strings.TrimSuffix(string(p), "/") + "/" + name
}

func (p ownPlace) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(p.path(name), flag, perm)
}

func (p ownPlace) Chtimes(name string, access, modified time.Time) error {
	return os.Chtimes(p.path(name), access, modified)
}
func (p ownPlace) Stat(name string) (fs.FileInfo, error)  { return os.Stat(p.path(name)) }
func (p ownPlace) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(p.path(name)) }
func (p ownPlace) MkdirAll(name string, perm fs.FileMode) error {
	return os.MkdirAll(p.path(name), perm)
}
func (p ownPlace) Remove(name string) error { return os.Remove(p.path(name)) }
func (p ownPlace) FS() fs.FS                { return os.DirFS(string(p)) }
func (p ownPlace) Close() error             { return nil }
