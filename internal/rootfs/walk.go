package rootfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A File is a file that has been found. One of Walk's is valid until Walk's
// function returns, one of a Cursor's until the cursor is used again, one of
// File's and FileExact's until it is closed.
type File struct {
	// Name is the real path in the root.
	Name string
	Info fs.FileInfo
	root *Root
	// dir is the directory that has it under the name base.
	dir  *os.File
	base string
}

// File finds a file; it follows the links on the way, but not the last one.
// Close it.
func (r *Root) File(name string) (*File, error) {
	name = path.Clean("/" + name)
	real, err := r.Resolve(path.Dir(name))
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return r.FileExact(path.Join(real, path.Base(name)))
}

// FileExact finds a file and follows no link. Close it.
func (r *Root) FileExact(name string) (*File, error) {
	name = path.Clean("/" + name)
	base := path.Base(name)
	if base == "/" {
		base = "."
	}
	dir, err := r.handle("lstat", path.Dir(name), exact|unix.O_DIRECTORY)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	f := &File{Name: name, root: r, dir: dir, base: base}
	if f.Info, err = os.Lstat(f.HostPath()); err != nil {
		_ = dir.Close()
		return nil, pathError("lstat", name, err)
	}
	return f, nil
}

// Close ends the use of a file that File or FileExact has found.
func (f *File) Close() error { return f.dir.Close() }

// HostPath names the file for system calls that follow no link at the end, by
// the descriptor of its directory.
func (f *File) HostPath() string { return descriptorPath(f.dir) + "/" + f.base }

// Readlink returns the target of a symbolic link.
func (f *File) Readlink() (string, error) {
	target, err := readlinkat(int(f.dir.Fd()), f.base)
	if err != nil {
		return "", pathError("readlink", f.Name, err)
	}
	return target, nil
}

// Opener opens the file later, as long as the root is open.
func (f *File) Opener() func() (io.ReadCloser, error) {
	root, name := f.root, f.Name
	return func() (io.ReadCloser, error) { return root.OpenExact(name) }
}

// A Cursor finds files of roots that nothing changes, one after the other: it
// keeps the directory of the last one open, so that the next one in it costs a
// single system call. The zero value is ready.
type Cursor struct {
	root *Root
	name string
	dir  *Root
}

// FileExact is the file that root.FileExact finds.
func (c *Cursor) FileExact(root *Root, name string) (*File, error) {
	name = path.Clean("/" + name)
	base := path.Base(name)
	if base == "/" {
		base = "."
	}
	if dir := path.Dir(name); c.dir == nil || c.root != root || c.name != dir {
		_ = c.Close() // it was only looked at
		sub, err := root.Sub(dir)
		if err != nil {
			return nil, pathError("lstat", name, err)
		}
		c.root, c.name, c.dir = root, dir, sub
	}
	info, err := c.dir.LstatExact(base)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return &File{Name: name, Info: info, root: root, dir: c.dir.dir, base: base}, nil
}

// Close closes what is open.
func (c *Cursor) Close() error {
	if c.dir == nil {
		return nil
	}
	err := c.dir.Close()
	*c = Cursor{}
	return err
}

// Walk calls fn for name and everything below it, directories first, in the
// order of names. It follows the links on the way to name and no other. Where
// fn returns fs.SkipDir for a directory, what is in it is left out; any other
// error ends the walk.
func (r *Root) Walk(name string, fn func(*File) error) error {
	f, err := r.File(name)
	if err != nil {
		return err
	}
	defer f.Close()
	parent, err := os.OpenRoot(descriptorPath(f.dir))
	if err != nil {
		return pathError("walk", name, err)
	}
	defer parent.Close()
	if err = fn(f); err == nil && f.Info.IsDir() {
		err = r.walkDirectory(parent, f.base, f.Name, fn)
	}
	if errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

// walkDirectory walks through what is in a directory, which is base in parent.
func (r *Root) walkDirectory(parent *os.Root, base, name string, fn func(*File) error) error {
	in, err := parent.OpenRoot(base)
	if err != nil {
		return pathError("walk", name, err)
	}
	defer in.Close()
	dir, err := in.Open(".")
	if err != nil {
		return pathError("walk", name, err)
	}
	defer dir.Close()
	entries, err := sortedEntries(dir, name)
	if err != nil {
		return err
	}
	prefix := strings.TrimSuffix(name, "/") + "/"
	for _, e := range entries {
		info, err := e.Info() // of the time when it was listed
		if err != nil {
			return pathError("walk", prefix+e.Name(), err)
		}
		f := &File{Name: prefix + e.Name(), Info: info, root: r, dir: dir, base: e.Name()}
		if err = fn(f); err == nil && info.IsDir() {
			err = r.walkDirectory(in, f.base, f.Name, fn)
		}
		if errors.Is(err, fs.SkipDir) && info.IsDir() {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sortEntries(entries []fs.DirEntry) {
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
}

// Glob returns the names that match a pattern of path.Match, in real
// directories: it follows every link on the way as a process in the root would,
// and leaves a link at the end what it is. They are in the order of their
// components, which is not that of their text: a/x comes before a-b/x.
// Directories that cannot be read match nothing. A pattern without special
// characters is a name, which must exist.
func (r *Root) Glob(pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, err
	}
	found := []string{"/"}
	components := strings.Split(strings.Trim(path.Clean("/"+pattern), "/"), "/")
	for _, c := range components {
		if c == "" {
			return found, nil
		}
		var next []string
		seen := map[string]bool{} // two directories may be the same one
		for _, dir := range found {
			names, err := r.match(dir, c)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if !seen[name] {
					seen[name] = true
					next = append(next, name)
				}
			}
		}
		found = next
	}
	return found, nil
}

// match returns the entries of a directory that match one component.
func (r *Root) match(dir, component string) ([]string, error) {
	real, err := r.Resolve(dir)
	if err != nil {
		return nil, nil //nolint:nilerr // a loop of links matches nothing
	}
	if !HasMeta(component) {
		if _, err := r.LstatExact(path.Join(real, component)); err != nil {
			return nil, notFound(err)
		}
		return []string{path.Join(real, component)}, nil
	}
	entries, err := r.ReadDirExact(real)
	if err != nil {
		return nil, notFound(err)
	}
	var names []string
	for _, e := range entries {
		if ok, err := path.Match(component, e.Name()); err == nil && ok {
			names = append(names, path.Join(real, e.Name()))
		}
	}
	return names, nil
}

// HasMeta reports whether a name is a pattern.
func HasMeta(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// QuoteMeta returns the pattern that matches a name alone.
func QuoteMeta(name string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(name)
}

// notFound lets pass the errors of a disk; any other means that nothing matches.
func notFound(err error) error {
	if errors.Is(err, unix.EIO) {
		return err
	}
	return nil
}
