package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeLogins writes what podman login writes; it makes the directory, too.
func writeLogins(t *testing.T, name string, logins map[string]string) {
	t.Helper()
	auths := map[string]any{}
	for key, login := range logins {
		auths[key] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(login))}
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAuthFiles(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a.json"), filepath.Join(t.TempDir(), "b.json")
	writeLogins(t, first, map[string]string{"ghcr.io": "all:1", "ghcr.io/org": "org:2", "ghcr.io/org/repo": "repo:3", "quay.io/org": "quay:8"})
	writeLogins(t, second, map[string]string{"ghcr.io": "never:4", "https://index.docker.io/v1/": "hub:5", "127.0.0.1:5000": "local:6", "docker.io/site": "site:7", "https://legacy.example.org/v1/": "old:9"})
	find := AuthFiles(filepath.Join(t.TempDir(), "none"), first, second)
	for _, test := range [][3]string{
		{"ghcr.io", "org/repo", "repo:3"},
		{"ghcr.io", "org/other", "org:2"},
		{"ghcr.io", "else", "all:1"},
		{"registry-1.docker.io", "library/x", "hub:5"},
		{"docker.io", "library/x", "hub:5"},
		{"docker.io", "site/x", "site:7"},
		{"docker.io", "sites/x", "hub:5"},
		{"quay.io", "org/x", "quay:8"},
		{"quay.io", "other/x", ":"}, // the login of a group is not for others
		{"legacy.example.org", "x", "old:9"},
		{"127.0.0.1:5000", "x", "local:6"},
		{"example.org", "x", ":"},
	} {
		cred, err := find(t.Context(), test[0], test[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := cred.Username + ":" + cred.Password; got != test[2] {
			t.Errorf("%s/%s: %s, want %s", test[0], test[1], got, test[2])
		}
	}
	if err := os.WriteFile(first, []byte(`{"auths": {"apart.example.org": {"username": "ann", "password": "10"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if cred, err := find(t.Context(), "apart.example.org", "x"); err != nil || cred.Username+":"+cred.Password != "ann:10" {
		t.Errorf("a login in two fields: %s:%s, %v", cred.Username, cred.Password, err)
	}
	if err := os.WriteFile(first, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t.Context(), "ghcr.io", "x"); err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("a broken file: error %v, want one that names it", err)
	}
}

// A program that a docker elsewhere keeps its logins with is not on every host.
func TestLoginsOfAMissingProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	for text, fails := range map[string]bool{
		`{"credsStore": "not-on-this-host"}`:                     false,
		`{"credHelpers": {"example.org": "not-on-this-host"}}`:   true,
		`{"credHelpers": {"other.example": "not-on-this-host"}}`: false,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := AuthFiles(file)(t.Context(), "example.org", "x"); (err != nil) != fails {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

// Where podman keeps logins without XDG_RUNTIME_DIR depends on its version. In a
// directory where everybody can make files, a file counts only if nobody else
// can have had a hand in it.
func TestLoginFiles(t *testing.T) {
	uid := fmt.Sprint(os.Getuid())
	temporary := func(t *testing.T) string {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, test := range map[string]struct {
		found bool
		make  func(t *testing.T, tmp string)
	}{
		"podman 5":                 {true, func(t *testing.T, tmp string) { writeLogins(t, tmp+"/storage-run-"+uid+"/containers/auth.json", nil) }},
		"podman 4":                 {true, func(t *testing.T, tmp string) { writeLogins(t, tmp+"/podman-run-"+uid+"/containers/auth.json", nil) }},
		"podman 1":                 {true, func(t *testing.T, tmp string) { writeLogins(t, tmp+"/run-"+uid+"/containers/auth.json", nil) }},
		"no sticky bit":            {false, func(t *testing.T, tmp string) { own(t, tmp); must(t, os.Chmod(tmp, 0o777)) }},
		"a private TMPDIR":         {true, func(t *testing.T, tmp string) { own(t, tmp); must(t, os.Chmod(tmp, 0o700)) }},
		"directory open to others": {false, func(t *testing.T, tmp string) { must(t, os.Chmod(filepath.Dir(filepath.Dir(own(t, tmp))), 0o777)) }},
		"group can write":          {false, func(t *testing.T, tmp string) { must(t, os.Chmod(filepath.Dir(own(t, tmp)), 0o770)) }},
		"file open to others":      {false, func(t *testing.T, tmp string) { must(t, os.Chmod(own(t, tmp), 0o666)) }},
		"directory of others":      {false, func(t *testing.T, tmp string) { chown(t, filepath.Dir(filepath.Dir(own(t, tmp)))) }},
		"file of others":           {false, func(t *testing.T, tmp string) { chown(t, own(t, tmp)) }},
		"a link to a file": {false, func(t *testing.T, tmp string) {
			file := own(t, tmp)
			must(t, os.Rename(file, file+".real"))
			must(t, os.Symlink(file+".real", file))
		}},
		"a link to a directory": {false, func(t *testing.T, tmp string) {
			dir := filepath.Dir(filepath.Dir(own(t, tmp)))
			must(t, os.Rename(dir, dir+".real"))
			must(t, os.Symlink(dir+".real", dir))
		}},
		"a directory of the name": {false, func(t *testing.T, tmp string) {
			must(t, os.MkdirAll(tmp+"/podman-run-"+uid+"/containers/auth.json", 0o700))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := temporary(t)
			test.make(t, tmp)
			env := map[string]string{"TMPDIR": tmp, "HOME": "/home/ann"}
			files := LoginFiles(func(name string) string { return env[name] })
			found := slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, tmp) })
			if found != test.found {
				t.Errorf("files are %q", files)
			}
		})
	}
}

// own makes the file that podman 4 makes.
func own(t *testing.T, tmp string) string {
	t.Helper()
	file := fmt.Sprint(tmp, "/podman-run-", os.Getuid(), "/containers/auth.json")
	writeLogins(t, file, nil)
	return file
}

// chown gives a file to somebody else.
func chown(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can give a file away")
	}
	must(t, os.Lchown(path, 4242, 4242))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// In a user namespace the user is root; podman has logged in outside.
func TestLoginFilesInAUserNamespace(t *testing.T) {
	env := map[string]string{"_CONTAINERS_ROOTLESS_UID": "1234", "HOME": "/home/ann"}
	files := LoginFiles(func(name string) string { return env[name] })
	for _, want := range []string{"/run/user/1234/containers/auth.json", "/run/containers/1234/auth.json", "/home/ann/.config/containers/auth.json", "/home/ann/.docker/config.json"} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is not among %q", want, files)
		}
	}
	env["REGISTRY_AUTH_FILE"] = "/else"
	if files := LoginFiles(func(name string) string { return env[name] }); !slices.Equal(files, []string{"/else"}) {
		t.Errorf("with REGISTRY_AUTH_FILE, files are %q", files)
	}
}

// After su, XDG_RUNTIME_DIR can be that of another user.
func TestRuntimeDirectoryOfSomebodyElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "containers/auth.json")
	writeLogins(t, file, nil)
	env := map[string]string{"XDG_RUNTIME_DIR": filepath.Dir(filepath.Dir(file))}
	find := func() bool { return slices.Contains(LoginFiles(func(name string) string { return env[name] }), file) }
	if !find() {
		t.Error("the user's own file is not found")
	}
	chown(t, file)
	if find() {
		t.Error("the file of another user counts")
	}
}
