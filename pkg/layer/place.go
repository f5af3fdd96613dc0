package layer

import (
	"cmp"
	"fmt"
	"path"
	"strings"
)

// The names by which layers delete files of layers below; see
// https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// rootName is that of the root directory's entry, as tar has it.
const rootName = "./"

// A ReservedError says that a file cannot be in an image: in a layer, its name
// removes another one.
type ReservedError struct {
	// Name is the file's path, absolute in the image.
	Name string
}

func (e *ReservedError) Error() string {
	return fmt.Sprintf("%q cannot be in an image: in a layer, a name that begins with .wh. removes another file", e.Name)
}

// A place is where an entry belongs in the canonical order.
type place struct {
	// name is clean and relative, without a trailing slash. It is empty for
	// the root directory.
	name string
	// subject is the path that the entry is about: what a whiteout hides,
	// the directory that is opaque, else the name.
	subject string
	// key sorts: the subject, with a slash after that of an opaque whiteout.
	key      string
	whiteout bool
}

// fileAt is where a file of that name belongs.
func fileAt(raw string) (place, error) {
	name, err := cleanName(raw)
	if err != nil {
		return place{}, err
	}
	if strings.Contains("/"+name, "/"+whiteoutPrefix) {
		return place{}, &ReservedError{Name: "/" + name}
	}
	return place{name: name, subject: name, key: name}, nil
}

// whiteoutOf is where the whiteout of a file belongs.
func whiteoutOf(file string) (place, error) {
	p, err := fileAt(file)
	if err != nil {
		return place{}, err
	}
	dir, base := path.Split(p.name)
	if base == "" {
		return place{}, fmt.Errorf("layer entry %q: the root cannot be removed", file)
	}
	p.name, p.whiteout = dir+whiteoutPrefix+base, true
	return p, nil
}

// opaqueAt is where the whiteout of all that is in a directory below belongs.
func opaqueAt(dir string) (place, error) {
	p, err := fileAt(dir)
	if err != nil {
		return place{}, err
	}
	p.name, p.key, p.whiteout = path.Join(p.name, opaqueName), p.name+"/", true
	if p.subject == "" {
		p.key = ""
	}
	return p, nil
}

// placeOf is where an entry of a layer's stream belongs, in which the name
// alone makes a whiteout.
func placeOf(raw string) (place, error) {
	name, err := cleanName(raw)
	if err != nil {
		return place{}, err
	}
	dir, base := path.Split(name)
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case base == opaqueName:
		return opaqueAt(dir)
	case !ok:
		return fileAt(name)
	case hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteoutPrefix):
		return place{}, &ReservedError{Name: "/" + name}
	}
	return whiteoutOf(dir + hidden)
}

// cleanName makes raw relative to the root. Going above it is an error.
func cleanName(raw string) (string, error) {
	name := path.Clean(strings.TrimLeft(raw, "/"))
	switch {
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("layer entry %q: a name cannot hold a zero byte", raw)
	case name == "..", strings.HasPrefix(name, "../"):
		return "", fmt.Errorf("layer entry %q: the name leads out of the image", raw)
	case name == ".":
		return "", nil
	}
	return name, nil
}

// compare orders places; it is zero only for two entries of the same name.
func (p place) compare(q place) int {
	if c := comparePaths(p.key, q.key); c != 0 || p.whiteout == q.whiteout {
		return c
	}
	if p.whiteout {
		return -1
	}
	return 1
}

// isBelow reports whether p stands inside the directory.
func (p place) isBelow(dir string) bool { return isBelow(p.key, dir) }

func isBelow(name, dir string) bool {
	return len(name) > len(dir) && name[len(dir)] == '/' && name[:len(dir)] == dir
}

// comparePaths compares component by component: a slash sorts before every
// other byte.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' {
			return -1
		}
		if b[i] == '/' {
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}
