package builder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Accounts of an image: /etc/passwd, /etc/group and the users that the recipe
// creates. See passwd(5) and group(5).

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

// fileOwner is like owner for a step that makes files: a number alone that is
// no user of the image is that group, too, as in docker's COPY --chown.
func (v *rootView) fileOwner(spec string) (uid, gid int, err error) {
	uid, gid, err = v.owner(spec)
	if err != nil || !isNumber(spec) {
		return uid, gid, err
	}
	fields, err := v.lookup(passwdFile, spec, 4)
	if fields == nil {
		gid = uid
	}
	return uid, gid, err
}

func (v *rootView) user(name string) (uid, gid int, err error) {
	for _, u := range v.users {
		if u.Name == name {
			return u.UID, userGID(u), nil
		}
	}
	fields, err := v.lookup(passwdFile, name, 4)
	if err != nil {
		return 0, 0, err
	}
	if fields == nil && !isNumber(name) {
		return 0, 0, &InputError{
			Err:  fmt.Errorf("the image has no user %q", name),
			Hint: "create it with a step such as 'user: {name: " + name + ", uid: 1001}', or give a number",
		}
	}
	if fields == nil {
		uid, err = givenID(name)
		return uid, 0, err
	}
	uid, gid, err = accountIDs(fields)
	if err != nil {
		return 0, 0, &InputError{Subject: "user " + name, Err: err, Hint: "correct the line in the image's /etc/passwd, or give another user"}
	}
	return uid, gid, nil
}

func (v *rootView) group(name string) (int, error) {
	for _, u := range v.users {
		if u.Name == name {
			return userGID(u), nil
		}
	}
	if isNumber(name) {
		return givenID(name)
	}
	fields, err := v.lookup(groupFile, name, 3)
	if err != nil {
		return 0, err
	}
	if fields == nil {
		return 0, &InputError{Err: fmt.Errorf("the image has no group %q", name), Hint: "give a number, or a group of the image's /etc/group"}
	}
	return groupID(fields)
}

// processGroups are the groups of a process that runs as spec, whose group is gid:
// those that have the account as a member, none where spec names a group, and
// gid. Podman, Buildah and Docker take the same.
func (v *rootView) processGroups(spec string, gid int) ([]uint32, error) {
	user, _, hasGroup := strings.Cut(spec, ":")
	groups := []uint32{uint32(gid)}
	if hasGroup {
		return groups, nil
	}
	if user == "" {
		user = "0"
	}
	account, err := v.lookup(passwdFile, user, 3)
	if err != nil || account == nil {
		return groups, err
	}
	more, err := v.groups(account[0])
	if err != nil {
		return nil, err
	}
	groups = append(groups, more...)
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// groups returns the groups that have a user as a member.
func (v *rootView) groups(user string) ([]uint32, error) {
	data, err := v.read(groupFile)
	if err != nil || user == "" {
		return nil, err
	}
	var gids []uint32
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 4 {
			continue
		}
		for _, member := range strings.Split(fields[3], ",") {
			if member != user {
				continue
			}
			gid, err := groupID(fields)
			if err != nil {
				return nil, err
			}
			gids = append(gids, uint32(gid))
		}
	}
	return gids, nil
}

// named finds the line of /etc/passwd or /etc/group with that name; nil when
// there is none.
func (v *rootView) named(file, name string, atLeast int) ([]string, error) {
	fields, err := v.lookup(file, name, atLeast)
	if err != nil || fields == nil || fields[0] != name {
		return nil, err
	}
	return fields, nil
}

// lookup finds the line of /etc/passwd or /etc/group whose name, or whose
// number, is key; nil when there is none.
func (v *rootView) lookup(file, key string, atLeast int) ([]string, error) {
	data, err := v.read(file)
	if err != nil {
		return nil, err
	}
	var byNumber []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimRight(line, "\r\n"), ":")
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
	return byNumber, nil
}

// home is a user's home directory as /etc/passwd has it.
func (v *rootView) home(user string) (string, error) {
	if user == "" {
		user = "0"
	}
	fields, err := v.lookup(passwdFile, user, 6)
	switch {
	case err != nil:
		return "", err
	case fields != nil && fields[5] != "":
		return fields[5], nil
	case user == "0" || user == "root":
		return "/root", nil
	}
	return "/", nil
}

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// isNumber reports whether an account is named by its id.
func isNumber(name string) bool { return strings.Trim(name, "0123456789") == "" }

// accountIDs are the user and group ids in the fields of a line of /etc/passwd.
func accountIDs(fields []string) (uid, gid int, err error) {
	if uid, err = recipe.ParseID(fields[2]); err == nil {
		gid, err = recipe.ParseID(fields[3])
	}
	return uid, gid, err
}

// groupID is the id in the fields of a line of /etc/group.
func groupID(fields []string) (int, error) {
	gid, err := recipe.ParseID(fields[2])
	if err != nil {
		return 0, &InputError{Subject: "group " + fields[0], Err: err, Hint: "correct the line in the image's /etc/group, or give another user"}
	}
	return gid, nil
}

// givenID is an id that was given where a name can stand.
func givenID(text string) (int, error) {
	id, err := recipe.ParseID(text)
	if err != nil {
		return 0, &InputError{Err: err}
	}
	return id, nil
}

func userGID(u recipe.UserSpec) int {
	if u.GID != 0 {
		return u.GID
	}
	return u.UID
}
