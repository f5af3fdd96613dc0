//go:build integration

package differential

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A scenario is a build context and the stages of a recipe; the last stage is
// the image.
type scenario struct {
	context []file
	ignore  []string
	stages  []stage
}

// A file belongs to the context.
type file struct {
	path string
	kind byte // d, f, l (symbolic link), h (hard link), p (pipe)
	mode uint32
	// text is the content of a file, or what a link names.
	text  string
	xattr bool
	cap   bool
}

// A stage starts from the base image.
type stage struct {
	name  string
	steps []step
}

// A step is one step of a recipe; verb says which of the other fields count.
type step struct {
	verb                  string
	lines                 []string // run
	sources, exclude      []string // copy
	to, from, owner, mode string   // copy, file
	text                  string   // content of file; user; workdir
}

// netRaw is cap_net_raw+ep as the kernel keeps it in security.capability.
var netRaw = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// writeContext writes the context for a user. The parents of a file need not be
// in the scenario.
func (s *scenario) writeContext(dir string, uid int, withCapabilities bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range s.context {
		name := filepath.Join(dir, f.path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), f.make(dir, name)); err != nil {
			return fmt.Errorf("context file %q: %w", f.path, err)
		}
	}
	if len(s.ignore) > 0 {
		if err := os.WriteFile(filepath.Join(dir, ".containerignore"), []byte(strings.Join(s.ignore, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, uid, uid))
	})
	for _, f := range s.context {
		err = errors.Join(err, f.adorn(filepath.Join(dir, f.path), withCapabilities))
	}
	return err
}

func (f *file) make(dir, name string) error {
	switch f.kind {
	case 'd':
		return os.MkdirAll(name, 0o755)
	case 'l':
		return os.Symlink(f.text, name)
	case 'h':
		err := os.Link(filepath.Join(dir, f.text), name)
		if errors.Is(err, fs.ErrNotExist) { // left out to make the scenario smaller
			return os.WriteFile(name, nil, 0o644)
		}
		return err
	case 'p':
		return unix.Mkfifo(name, 0o644)
	}
	return os.WriteFile(name, []byte(f.text), 0o644)
}

// adorn gives the file what a change of its owner would take away.
func (f *file) adorn(name string, withCapabilities bool) error {
	if f.kind == 'l' || f.kind == 'h' {
		return nil
	}
	err := unix.Chmod(name, f.mode)
	if f.xattr && f.kind != 'p' {
		err = errors.Join(err, unix.Setxattr(name, "user.differential", []byte("value of "+f.kindName()), 0))
	}
	if f.cap && withCapabilities && f.kind == 'f' {
		err = errors.Join(err, unix.Setxattr(name, "security.capability", netRaw, 0))
	}
	if err != nil {
		return fmt.Errorf("context file %q: %w", f.path, err)
	}
	return nil
}

func (f *file) kindName() string {
	return map[byte]string{'d': "directory", 'f': "file", 'l': "link", 'h': "hard link", 'p': "pipe"}[f.kind]
}

func (f *file) String() string {
	text := fmt.Sprintf("%-9s %q", f.kindName(), f.path)
	switch f.kind {
	case 'l', 'h':
		return text + fmt.Sprintf(" -> %q", f.text)
	case 'f':
		text += fmt.Sprintf(" content %q", f.text)
	}
	text += fmt.Sprintf(" mode %#o", f.mode)
	if f.xattr {
		text += " user.differential"
	}
	if f.cap {
		text += " cap_net_raw"
	}
	return text
}
