package builder

import (
	"archive/tar"
	"fmt"
	"path"
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
	old, err := existingUser(view, u)
	if err != nil {
		return err
	}
	if u.Home == "" && old == nil {
		u.Home = "/home/" + u.Name
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh"
	}
	gid := userGID(u)
	accounts := []struct{ file, line string }{
		{passwdFile, fmt.Sprintf("%s:x:%d:%d::%s:%s", u.Name, u.UID, gid, u.Home, u.Shell)},
		{groupFile, fmt.Sprintf("%s:x:%d:", u.Name, gid)},
		{"/etc/shadow", u.Name + ":!:::::::"},
		{"/etc/gshadow", u.Name + ":!::"},
	}
	for _, a := range accounts {
		if err := addLine(view, tree, a.file, a.line); err != nil {
			return fmt.Errorf("%s: %w", a.file, err)
		}
	}
	if u.Home == "" {
		return nil
	}
	return addDirectory(view, tree, u.Home, u.UID, gid)
}

// An account is a line of /etc/passwd.
type account struct{ uid, gid, home, shell string }

// existingUser returns the account of that name in the image, nil when there is
// none. One that is not as the recipe wants it is an error: it stays as it is,
// and the files that the recipe gives to the user would be another one's.
func existingUser(view *rootView, u recipe.UserSpec) (*account, error) {
	image := &rootView{Root: view.Root} // without the users of the recipe
	group, err := image.named(groupFile, u.Name, 3)
	if err != nil {
		return nil, err
	}
	fields, err := image.named(passwdFile, u.Name, 7)
	if err != nil || fields == nil {
		if err == nil && group != nil {
			err = differs(u.Name, "group", [][3]string{{"gid", group[2], fmt.Sprint(userGID(u))}})
		}
		return nil, err
	}
	old := &account{uid: fields[2], gid: fields[3], home: fields[5], shell: fields[6]}
	wanted := [][3]string{{"uid", old.uid, fmt.Sprint(u.UID)}, {"gid", old.gid, fmt.Sprint(userGID(u))}}
	if u.Home != "" {
		wanted = append(wanted, [3]string{"home", path.Clean(old.home), path.Clean(u.Home)})
	}
	if u.Shell != "" {
		wanted = append(wanted, [3]string{"shell", old.shell, u.Shell})
	}
	return old, differs(u.Name, "user", wanted)
}

// differs is an error if one of the settings, each a key with the value that the
// image has and the one that is wanted, is another one in the image.
func differs(name, kind string, settings [][3]string) error {
	var there []string
	for _, s := range settings {
		if s[1] != s[2] {
			there = append(there, fmt.Sprintf("%s %s instead of %s", s[0], s[1], s[2]))
		}
	}
	if len(there) == 0 {
		return nil
	}
	return &InputError{
		Err:  fmt.Errorf("the image has a %s %s already, with %s", kind, name, strings.Join(there, " and ")),
		Hint: "write what the image has, or use another name; to take the user as it is, write user: " + name,
	}
}

// addLine appends a line, unless the file has one for that name. Files with
// passwords are never made.
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
	place, err := view.Resolve(file) // it may be a link to where the image keeps it
	if err != nil {
		return err
	}
	hdr := regular(place, int64(len(text)))
	if old, err := view.header(place); err == nil && old.Typeflag == tar.TypeReg {
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
