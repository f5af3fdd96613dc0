package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/layer"
)

// A place is a path in the image in which no part is a link.
type place struct {
	path string
	// kind is the type of a tar entry, 0 where nothing is there.
	kind byte
	// link is the target of a symbolic link.
	link string
	// inImage tells what the image has, too, from what the step alone has added.
	inImage bool
}

// A notDirectoryError says that a file is where a directory is needed.
type notDirectoryError struct{ path string }

func (e *notDirectoryError) Error() string { return e.path + " is not a directory" }

// place changes the name of an entry to the one behind the links of the image,
// and of the tree so far: a process that writes a file under that name writes
// it there. A file does not take the place of a directory, nor a directory that
// of a file.
func (c *copier) place(hdr *tar.Header) error {
	if c.image == nil {
		return nil
	}
	name := path.Clean("/" + hdr.Name)
	if hdr.Typeflag == tar.TypeDir {
		return c.placeDirectory(hdr, name)
	}
	at, err := c.file(name)
	switch {
	case err != nil:
		return c.refuse(name, err)
	case at.kind == tar.TypeDir && !at.inImage:
		return &InputError{
			Err:  fmt.Errorf("%s is a directory that another source makes; %s would take its place", at.path, c.source),
			Hint: "leave one of them out with exclude, or copy it to another place",
		}
	case at.kind == tar.TypeDir:
		return &InputError{
			Err:  fmt.Errorf("%s is a directory; %s would take its place", at.path, c.source),
			Hint: "choose another destination, or remove the directory in a step before",
		}
	case at.kind == tar.TypeSymlink:
		clear(c.dirs) // what was behind it is somewhere else now
	}
	hdr.Name = at.path
	return nil
}

func (c *copier) placeDirectory(hdr *tar.Header, name string) error {
	at, err := c.directory(name)
	if err != nil {
		return c.refuse(name, err)
	}
	c.dirs[name] = place{path: at.path, kind: tar.TypeDir, inImage: at.inImage}
	hdr.Name = at.path
	if name == c.to && at.inImage {
		return c.keepDirectory(hdr)
	}
	return nil
}

// refuse explains why nothing can be copied to name.
func (c *copier) refuse(name string, err error) error {
	var not *notDirectoryError
	switch {
	case errors.As(err, &not):
		return &InputError{
			Err:  fmt.Errorf("%w; %s would go to %s", err, c.source, name),
			Hint: "choose another destination, or remove the file in a step before",
		}
	case errors.Is(err, unix.ELOOP):
		return &InputError{
			Err:  fmt.Errorf("%w; %s would go to %s", err, c.source, name),
			Hint: "choose another destination, or remove the link in a step before",
		}
	}
	return err
}

// keepDirectory gives the entry of the destination itself the attributes that
// it has in the image: the step copies what is in a directory.
func (c *copier) keepDirectory(hdr *tar.Header) error {
	old, err := c.image.header(hdr.Name)
	if err != nil {
		return err
	}
	hdr.Mode, hdr.Uid, hdr.Gid, hdr.PAXRecords = old.Mode, old.Uid, old.Gid, old.PAXRecords
	return nil
}

// file returns the place of a file. A link at the end is followed where it is
// the destination of the step; among the copied files it is replaced.
func (c *copier) file(name string) (place, error) {
	dir, err := c.enter(path.Dir(name))
	if err != nil {
		return place{}, err
	}
	if name == c.to {
		return c.follow(dir, path.Base(name))
	}
	return c.look(dir, path.Base(name))
}

// enter returns the place of a directory, which is made where it is missing.
func (c *copier) enter(name string) (place, error) {
	at, err := c.directory(name)
	if err != nil || at.kind != 0 {
		return at, err
	}
	if at, err = c.make(at); err == nil {
		c.dirs[name] = at
	}
	return at, err
}

// directory returns the place of a directory, whether it is there or not. Those
// above it are made.
func (c *copier) directory(name string) (place, error) {
	if at, ok := c.dirs[name]; ok {
		return at, nil
	}
	if c.dirs == nil {
		c.dirs = map[string]place{}
	}
	if name == "/" {
		return rootPlace, nil
	}
	above, err := c.enter(path.Dir(name))
	if err != nil {
		return place{}, err
	}
	at, err := c.follow(above, path.Base(name))
	if err != nil {
		return place{}, err
	}
	switch at.kind {
	case 0:
	case tar.TypeDir:
		c.dirs[name] = at
	default:
		return place{}, &notDirectoryError{at.path}
	}
	return at, nil
}

// make adds a missing directory, as addParents does.
func (c *copier) make(at place) (place, error) {
	hdr := tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(at.path, "/"), Mode: 0o755}
	if c.ownsParents {
		hdr.Uid, hdr.Gid = c.uid, c.gid
	}
	return place{path: at.path, kind: tar.TypeDir}, c.tree.Add(layer.Entry{Header: hdr})
}

// maxLinks is how many links a path may have, as in package rootfs.
const maxLinks = 255

// follow returns the place of what is in a directory, behind all links.
// Directories on the way that are missing are made.
func (c *copier) follow(dir place, name string) (at place, err error) {
	at = dir
	rest := []string{name}
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch {
		case part == "" || part == ".":
			continue
		case at.kind == 0 && part != "..":
			at, err = c.make(at)
		case at.kind != 0 && at.kind != tar.TypeDir:
			err = &notDirectoryError{at.path}
		}
		if err != nil {
			return place{}, err
		}
		if part == ".." {
			at, err = c.look(place{path: path.Dir(path.Dir(at.path)), inImage: true}, path.Base(path.Dir(at.path)))
			continue
		}
		next, err := c.look(at, part)
		if err != nil {
			return place{}, err
		}
		if next.kind != tar.TypeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return place{}, fmt.Errorf("%s: %w", next.path, unix.ELOOP)
		}
		if path.IsAbs(next.link) {
			at = rootPlace
		}
		rest = append(strings.Split(next.link, "/"), rest...)
	}
	return at, err
}

var rootPlace = place{path: "/", kind: tar.TypeDir, inImage: true}

// look returns what is in a directory under a name.
func (c *copier) look(dir place, name string) (place, error) {
	at := place{path: path.Join(dir.path, name)}
	if at.path == "/" {
		return rootPlace, nil
	}
	kind, link, added := c.tree.Lookup(at.path)
	if added {
		at.kind, at.link = kind, link
	}
	if !dir.inImage || added && kind != tar.TypeDir {
		return at, nil
	}
	info, err := c.image.LstatExact(at.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	if added {
		at.inImage = info.IsDir() // and what the image has in it is still there
		return at, nil
	}
	at.inImage = true
	switch info.Mode().Type() {
	case fs.ModeDir:
		at.kind = tar.TypeDir
	case fs.ModeSymlink:
		at.kind = tar.TypeSymlink
		at.link, err = c.image.ReadlinkExact(at.path)
	default:
		at.kind = tar.TypeReg
	}
	return at, err
}
