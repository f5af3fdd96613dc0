package layer

import (
	"cmp"
	"errors"
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

var errReserved = errors.New("file names that begin with .wh. are reserved in image layers and cannot be stored; rename the file")

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

func placeOf(raw string) (place, error) {
	name, err := cleanName(raw)
	if err != nil {
		return place{}, err
	}
	dir, base := path.Split(name)
	if strings.Contains("/"+dir, "/"+whiteoutPrefix) {
		return place{}, fmt.Errorf("layer entry %q: %w", raw, errReserved)
	}
	switch {
	case base == opaqueName:
		return place{name: name, subject: strings.TrimSuffix(dir, "/"), key: dir, whiteout: true}, nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return place{name: name, subject: name, key: name}, nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteoutPrefix) {
		return place{}, fmt.Errorf("layer entry %q: %w", raw, errReserved)
	}
	return place{name: name, subject: dir + hidden, key: dir + hidden, whiteout: true}, nil
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
