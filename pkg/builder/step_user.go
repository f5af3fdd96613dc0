package builder

import (
	"archive/tar"
	"fmt"
	"strings"

	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// createsUser reports whether a user step makes an account.
func createsUser(u recipe.UserSpec) bool {
	return u.UID != 0 || u.GID != 0 || u.Home != "" || u.Shell != ""
}

// addUser adds an account: lines in /etc/passwd, /etc/group and, where they
// exist, /etc/shadow and /etc/gshadow (see passwd(5), group(5), shadow(5)),
// and the home directory. It needs no program of the image and writes no
// date, so the same recipe gives the same files everywhere.
func addUser(view *rootView, tree *layer.Tree, u recipe.UserSpec) error {
	if u.Home == "" {
		u.Home = "/home/" + u.Name
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh"
	}
	gid := userGID(u)
	other := &rootView{Root: view.Root}
	if fields, err := other.lookup("/etc/passwd", u.Name, 4); err != nil {
		return err
	} else if fields != nil && fields[0] == u.Name && fields[2] != fmt.Sprint(u.UID) {
		return &InputError{Err: fmt.Errorf("the image has a user %s already, with uid %s instead of %d", u.Name, fields[2], u.UID), Hint: "use that uid or another name"}
	}
	accounts := []struct{ file, line string }{
		{"/etc/passwd", fmt.Sprintf("%s:x:%d:%d::%s:%s", u.Name, u.UID, gid, u.Home, u.Shell)},
		{"/etc/group", fmt.Sprintf("%s:x:%d:", u.Name, gid)},
		{"/etc/shadow", u.Name + ":!:::::::"},
		{"/etc/gshadow", u.Name + ":!::"},
	}
	for _, a := range accounts {
		if err := addLine(view, tree, a.file, a.line); err != nil {
			return fmt.Errorf("%s: %w", a.file, err)
		}
	}
	return addDirectory(view, tree, u.Home, u.UID, gid)
}

// addLine appends a line unless the file has one for that name. The files with
// passwords are not made where there are none.
func addLine(view *rootView, tree *layer.Tree, file, line string) error {
	data, err := view.read(file)
	if err != nil {
		return err
	}
	secretFile := strings.HasSuffix(file, "shadow")
	if data == nil && secretFile {
		return nil
	}
	name, _, _ := strings.Cut(line, ":")
	text := string(data)
	if strings.HasPrefix(text, name+":") || strings.Contains(text, "\n"+name+":") {
		return nil
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	text += line + "\n"
	hdr := regular(file, int64(len(text)))
	if old, err := view.header(file); err == nil && old.Typeflag == tar.TypeReg {
		hdr.Mode, hdr.Uid, hdr.Gid = old.Mode, old.Uid, old.Gid
	}
	return tree.Add(layer.Entry{Header: hdr, Open: layer.Bytes([]byte(text))})
}

// regular and directory are headers of new files; their time becomes the epoch.
func regular(name string, size int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: 0o644, Size: size, ModTime: farFuture}
}

func directory(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/"), Mode: mode, ModTime: farFuture}
}
