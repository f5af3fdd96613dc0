package builder

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A rootView looks at a mounted root file system as a process in it would:
// symbolic links never lead out of it.
type rootView struct {
	root string
	// users are those that the recipe creates, also later in the stage.
	users []recipe.UserSpec
}

func (v *rootView) path(name string) (string, error) {
	return securejoin.SecureJoin(v.root, name)
}

// resolve follows the links in name and returns the real path in the image,
// absolute and clean.
func (v *rootView) resolve(name string) (string, error) {
	full, err := v.path(name)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(v.root, full)
	if err != nil {
		return "", err
	}
	return filepath.Join("/", rel), nil
}

// isDir reports whether name is a directory or a link to one.
func (v *rootView) isDir(name string) bool {
	full, err := v.path(name)
	if err != nil {
		return false
	}
	info, err := os.Stat(full)
	return err == nil && info.IsDir()
}

// header describes a file that is there as a tar entry.
func (v *rootView) header(name string) (*tar.Header, error) {
	full := filepath.Join(v.root, name)
	info, err := os.Lstat(full)
	if err != nil {
		return nil, err
	}
	hdr, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return nil, err
	}
	hdr.Name = strings.TrimPrefix(filepath.Clean(name), "/")
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		hdr.Uid, hdr.Gid = int(st.Uid), int(st.Gid)
	}
	switch uid, gid, ok, err := ownership.Owner(full); {
	case imagestore.IsDiskError(err):
		return nil, err
	case err == nil && ok:
		hdr.Uid, hdr.Gid = uid, gid
	}
	return hdr, nil
}

// read returns the content of a small file; a missing one is empty.
func (v *rootView) read(name string) ([]byte, error) {
	full, err := v.path(name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// addParents adds the directories above the entries: as they are where they
// are there, else owned by root and open to all.
func (v *rootView) addParents(t *layer.Tree) error {
	for _, dir := range t.MissingParents() {
		hdr, err := v.header("/" + dir)
		if errors.Is(err, fs.ErrNotExist) {
			hdr, err = &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil
		}
		if err != nil {
			return err
		}
		if hdr.Typeflag != tar.TypeDir {
			return fmt.Errorf("/%s is not a directory in the image", dir)
		}
		if err := t.Add(layer.Entry{Header: *hdr}); err != nil {
			return err
		}
	}
	return nil
}

// owner resolves "user", "user:group", "1000" or "1000:1000"; "" is root.
// A user alone brings its own group along.
func (v *rootView) owner(spec string) (uid, gid int, err error) {
	if spec == "" {
		return 0, 0, nil
	}
	userName, groupName, hasGroup := strings.Cut(spec, ":")
	uid, gid, err = v.user(userName)
	if err != nil || !hasGroup {
		return uid, gid, err
	}
	gid, err = v.group(groupName)
	return uid, gid, err
}

func (v *rootView) user(name string) (uid, gid int, err error) {
	for _, u := range v.users {
		if u.Name == name {
			return u.UID, userGID(u), nil
		}
	}
	fields, err := v.lookup("/etc/passwd", name, 4)
	if err != nil {
		return 0, 0, err
	}
	if n, err := strconv.Atoi(name); err == nil {
		if fields == nil {
			return n, 0, nil
		}
		gid, err = strconv.Atoi(fields[3])
		return n, gid, err
	}
	if fields == nil {
		return 0, 0, &InputError{
			Err:  fmt.Errorf("the image has no user %q", name),
			Hint: "create it with a step such as 'user: {name: " + name + ", uid: 1001}', or give a number",
		}
	}
	uid, err1 := strconv.Atoi(fields[2])
	gid, err2 := strconv.Atoi(fields[3])
	return uid, gid, errors.Join(err1, err2)
}

func (v *rootView) group(name string) (int, error) {
	for _, u := range v.users {
		if u.Name == name {
			return userGID(u), nil
		}
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	fields, err := v.lookup("/etc/group", name, 3)
	if err != nil {
		return 0, err
	}
	if fields == nil {
		return 0, &InputError{Err: fmt.Errorf("the image has no group %q", name), Hint: "give a number, or a group of the image's /etc/group"}
	}
	return strconv.Atoi(fields[2])
}

// groups returns the supplementary groups of a user; see group(5).
func (v *rootView) groups(user string) ([]uint32, error) {
	data, err := v.read("/etc/group")
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 4 {
			continue
		}
		for _, member := range strings.Split(fields[3], ",") {
			if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil && member == user && user != "" {
				gids = append(gids, uint32(gid))
			}
		}
	}
	return gids, nil
}

// lookup finds the line of /etc/passwd or /etc/group whose name, or whose
// number, is key; nil when there is none.
func (v *rootView) lookup(file, key string, atLeast int) ([]string, error) {
	data, err := v.read(file)
	if err != nil {
		return nil, err
	}
	var byNumber []string
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < atLeast {
			continue
		}
		if fields[0] == key {
			return fields, nil
		}
		if fields[2] == key && byNumber == nil {
			byNumber = fields
		}
	}
	return byNumber, lines.Err()
}

func userGID(u recipe.UserSpec) int {
	if u.GID != 0 {
		return u.GID
	}
	return u.UID
}
