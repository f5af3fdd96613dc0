package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	pathpkg "path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"oras.land/oras-go/v2/registry/remote/credentials"
)

// AuthFiles looks for credentials in files as `podman login` and `docker
// login` write them, credential helpers included; the first one that knows the
// host wins. An entry for HOST/PATH goes before one for HOST, and is for nothing
// but what is below that path. Files that do not exist are passed over.
func AuthFiles(files ...string) CredentialFunc {
	return func(ctx context.Context, host, path string) (Credential, error) {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if file == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				continue
			}
			var logins authFile
			if err == nil {
				err = json.Unmarshal(data, &logins)
			}
			var found Credential
			if err == nil {
				found, err = logins.find(ctx, host, path)
			}
			if err != nil {
				return Credential{}, fmt.Errorf("read credentials from %s: %w", file, err)
			}
			if found != (Credential{}) {
				return found, nil
			}
		}
		return Credential{}, nil
	}
}

// An authFile has logins, or names the programs that have them. oras-go reads
// such files, too, but takes an entry for HOST/PATH for one for all of HOST.
type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          []byte `json:"auth"` // USER:PASSWORD
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (f *authFile) find(ctx context.Context, host, path string) (Credential, error) {
	names := []string{host}
	if apiHost(host) == apiHost("docker.io") || host == apiHost("docker.io") {
		// Podman has the first name, docker the last.
		names = []string{"docker.io", "index.docker.io", "https://index.docker.io/v1/"}
	}
	for key := strings.TrimSuffix(names[0]+"/"+path, "/"); key != "."; key = pathpkg.Dir(key) {
		if found := f.Auths[key].credential(); found != (Credential{}) {
			return found, nil
		}
	}
	for _, name := range names {
		helper, own := f.CredHelpers[name]
		if helper = cmp.Or(helper, f.CredsStore); helper == "" {
			continue
		}
		found, err := FromHelper(ctx, helper, name)
		if !own && errors.Is(err, exec.ErrNotFound) {
			break // the file comes from another host
		}
		if err != nil || found != (Credential{}) {
			return found, err
		}
	}
	for key, entry := range f.Auths {
		if u, err := url.Parse(key); err == nil && slices.Contains(names, u.Host) { // as old dockers wrote it
			return entry.credential(), nil
		}
	}
	return Credential{}, nil
}

func (e authEntry) credential() Credential {
	user, password := e.Username, e.Password
	if len(e.Auth) > 0 {
		user, password, _ = strings.Cut(string(e.Auth), ":")
	}
	return Credential{Username: user, Password: strings.Trim(password, "\x00"), IdentityToken: e.IdentityToken, AccessToken: e.RegistryToken}
}

// FromHelper asks the program docker-credential-HELPER.
func FromHelper(ctx context.Context, helper, server string) (Credential, error) {
	found, err := credentials.NewNativeStore(helper).Get(ctx, server)
	if err != nil {
		return Credential{}, fmt.Errorf("ask docker-credential-%s: %w", helper, err)
	}
	return Credential{Username: found.Username, Password: found.Password, IdentityToken: found.RefreshToken}, nil
}

// LoginFiles are the files in which podman, buildah, skopeo and docker keep the
// logins of this user, in the order in which podman looks. Env reads variables,
// of which $REGISTRY_AUTH_FILE rules out all other files.
func LoginFiles(env func(name string) string) []string {
	if file := env("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	uid := strconv.Itoa(os.Getuid())
	if outside := env("_CONTAINERS_ROOTLESS_UID"); outside != "" {
		uid = outside // of who has made the user namespace
	}
	home := env("HOME")
	files := append(runtimeLogins(env, uid), filepath.Join("/run/containers", uid, "auth.json"))
	return append(files,
		filepath.Join(home, "rundir", podmanLogins),
		filepath.Join(cmp.Or(env("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), podmanLogins),
		filepath.Join(cmp.Or(env("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json"))
}

const podmanLogins = "containers/auth.json"

// runtimeLogins are in the directories that podman takes for XDG_RUNTIME_DIR.
// Without that variable, as after su, in cron and in many batch jobs, it makes
// one, whose place depends on its version. Where others could have made it, it
// counts only if they did not.
func runtimeLogins(env func(string) string, uid string) (files []string) {
	// After su, the variable may name a directory of another user.
	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		file := filepath.Join(dir, podmanLogins)
		if info, err := os.Stat(file); err != nil || belongs(info) {
			files = append(files, file)
		}
	}
	files = append(files, filepath.Join("/run/user", uid, podmanLogins))
	for _, temporary := range []string{env("TMPDIR"), "/tmp"} {
		// Of podman 5, of podman 3 and 4, and of older ones.
		for _, name := range []string{"storage-run-", "podman-run-", "run-"} {
			file := filepath.Join(temporary, name+uid, podmanLogins)
			if filepath.IsAbs(file) && isPrivate(file) && !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files
}

// isPrivate says that a file, the directory that it is in and the one above are
// the user's, and that nobody else can write to them or put others in their
// place.
func isPrivate(file string) bool {
	for i := range 3 {
		kind := os.ModeDir
		if i == 0 {
			kind = 0
		}
		info, err := os.Lstat(file) // a link can lead anywhere
		if err != nil || !belongs(info) || info.Mode().Type() != kind || info.Mode().Perm()&0o022 != 0 {
			return false
		}
		file = filepath.Dir(file)
	}
	in, err := os.Stat(file)
	if err != nil {
		return false
	}
	st, ok := in.Sys().(*syscall.Stat_t)
	trusted := ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid() || int(st.Uid) == overflowID)
	return trusted && (in.Mode().Perm()&0o022 == 0 || in.Mode()&os.ModeSticky != 0)
}

// overflowID is what root is called in a user namespace of somebody else.
const overflowID = 65534

func belongs(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
