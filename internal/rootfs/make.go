package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxRaces is how often Make starts again when somebody else removes, at the
// same time, what it goes through.
const maxRaces = 100

// Make returns an O_PATH descriptor of name. It follows all links, as Handle
// does, and makes what does not exist: directories on the way, and at the end a
// directory or an empty file. A link to something that does not exist is
// followed, too, and its target made. What exists stays as it is, whatever it is.
//
// Made lists what it has made, in this order and also when it fails. Close them.
func (r *Root) Make(name string, dir bool) (f *os.File, made []Made, err error) {
	for range maxRaces {
		if f, err = r.make(name, dir, &made); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, made, pathError("make", name, err)
	}
	return f, made, nil
}

func (r *Root) make(name string, dir bool, made *[]Made) (*os.File, error) {
	w := walker{root: r.dir}
	defer w.close()
	tries := 0
	w.missing = func(component string, isLast bool) error {
		if tries++; tries > maxRaces {
			return unix.ENOENT
		}
		m, err := makeIn(w.top(), component, dir || !isLast)
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		if err == nil {
			*made = append(*made, *m)
		}
		return err
	}
	if _, err := w.follow(name); err != nil {
		return nil, err
	}
	return duplicate(w.top())
}

// makeIn makes one directory or file; one that exists is an error.
func makeIn(parent *os.File, name string, dir bool) (*Made, error) {
	info, err := parent.Stat()
	if err != nil {
		return nil, err
	}
	if dir {
		err = unix.Mkdirat(int(parent.Fd()), name, 0o755)
	} else {
		var fd int
		const flags = unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_WRONLY | unix.O_CLOEXEC
		if fd, err = unix.Openat(int(parent.Fd()), name, flags, 0o644); err == nil {
			err = unix.Close(fd)
		}
	}
	if errors.Is(err, unix.ENOENT) && !isRemoved(parent) {
		err = unix.EPERM // such as in /proc
	}
	if err != nil {
		return nil, err
	}
	in, err := duplicate(parent)
	if err != nil {
		return nil, err
	}
	return &Made{Dir: in, Name: name, dir: dir, before: info.ModTime()}, nil
}

// isRemoved reports whether a directory has no name any more.
func isRemoved(dir *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(dir.Fd()), &st) == nil && st.Nlink == 0
}

// A Made is a directory or an empty file that Make has made.
type Made struct {
	// Dir is an O_PATH descriptor of the directory that Name is in.
	Dir  *os.File
	Name string

	dir bool
	// before is Dir's time before.
	before time.Time
}

// Undo removes it, unless something else is there now or it is no longer empty,
// and gives its directory the time that it had. Undo the last one first.
func (m *Made) Undo() error {
	err := m.remove()
	if err == nil {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(m.before.UnixNano())}
		err = unix.UtimesNanoAt(int(m.Dir.Fd()), ".", times, 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pathError("remove", m.Name, err)
	}
	return nil
}

func (m *Made) remove() error {
	var st unix.Stat_t
	err := unix.Fstatat(int(m.Dir.Fd()), m.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err != nil:
	case m.dir && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.Unlinkat(int(m.Dir.Fd()), m.Name, unix.AT_REMOVEDIR)
	case !m.dir && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0:
		err = unix.Unlinkat(int(m.Dir.Fd()), m.Name, 0)
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Close lets go of the directory.
func (m *Made) Close() error { return m.Dir.Close() }
