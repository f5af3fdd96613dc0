package spackmirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// A PendingPush is what a build could not send to a Spack binary cache.
type PendingPush struct {
	// Mirror is its name in the environment, URL its address.
	Mirror string `json:"mirror"`
	URL    string `json:"url"`
	// UserVariable and SecretVariable are the environment variables that
	// Spack would take the credentials from; "" if the environment names none.
	UserVariable   string `json:"user_variable,omitempty"`
	SecretVariable string `json:"secret_variable,omitempty"`
	// Hashes are those of the packages.
	Hashes []string `json:"hashes"`
	// Images are those that the cache is to have of its packages, by tag.
	Images map[string]buildcache.Image `json:"images,omitempty"`
}

// PendingPushOptions say how PushPending reaches a cache.
type PendingPushOptions struct {
	// Credential returns user and password, unless Registries has them; both
	// empty means that the files with logins are asked. May be nil.
	Credential func(PendingPush) (user, password string)
	// Env names proxies, as BuildOptions.Env does.
	Env map[string]string
	// Report receives lines for people; may be nil.
	Report func(text string)
}

func (s *Store) pendingPath(address string) string {
	return filepath.Join(s.Path("pending"), stepkey.Of("pending", address)[:16]+".json")
}

// PendingPushes returns what builds could not send to binary caches.
func (s *Store) PendingPushes() ([]PendingPush, error) {
	dir := s.Path("pending")
	files, err := fs.Glob(os.DirFS(dir), "*.json")
	if err != nil {
		return nil, err
	}
	var all []PendingPush
	for _, file := range files {
		if p, ok := readPending(filepath.Join(dir, file)); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// readPending reads a record. A damaged one costs the reminder, no package.
func readPending(file string) (p PendingPush, ok bool) {
	data, err := os.ReadFile(file)
	return p, err == nil && json.Unmarshal(data, &p) == nil && p.URL != ""
}

func (s *Store) writePending(p PendingPush) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.pendingPath(p.URL), data, 0o600)
}

// addPending adds to what is to be sent to a cache.
func (s *Store) addPending(p PendingPush) error {
	p.Hashes = slices.Clone(p.Hashes)
	if old, ok := readPending(s.pendingPath(p.URL)); ok {
		p.Hashes = append(p.Hashes, old.Hashes...)
		if old.Images != nil {
			maps.Copy(old.Images, p.Images)
			p.Images = old.Images
		}
	}
	slices.Sort(p.Hashes)
	p.Hashes = slices.Compact(p.Hashes)
	return s.writePending(p)
}

// removePending removes packages and images that have been sent from the record.
func (s *Store) removePending(sent PendingPush) error {
	file := s.pendingPath(sent.URL)
	p, ok := readPending(file)
	if !ok {
		return nil
	}
	p.Hashes = slices.DeleteFunc(p.Hashes, func(h string) bool { return slices.Contains(sent.Hashes, h) })
	maps.DeleteFunc(p.Images, func(tag string, _ buildcache.Image) bool { _, ok := sent.Images[tag]; return ok })
	if len(p.Hashes)+len(p.Images) > 0 {
		return s.writePending(p)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PushPending sends what builds could not send, and returns how many packages
// are at their cache now. What cannot be sent now either stays pending; the
// error, a *failure.RegistryError, tells why.
func (s *Store) PushPending(ctx context.Context, access Access, opt PendingPushOptions) (sent int, err error) {
	pending, err := s.PendingPushes()
	if err != nil {
		return 0, err
	}
	local, err := s.OpenCache(ctx)
	if err != nil {
		return 0, err
	}
	if opt.Report == nil {
		opt.Report = func(string) {}
	}
	var errs []error
	for _, p := range pending {
		n, err := s.pushPending(ctx, local, p, access, opt)
		sent += n
		if err != nil {
			errs = append(errs, &failure.RegistryError{Op: "push", Image: p.URL, Err: err, Hint: "log in with 'podman login', or set the variables that the environment names; the packages stay in the local binary cache", Code: failure.PendingLogin})
		}
	}
	return sent, errors.Join(errs...)
}

func (s *Store) pushPending(ctx context.Context, local *buildcache.Cache, p PendingPush, access Access, opt PendingPushOptions) (int, error) {
	remote, err := access.open(ctx, p.URL, connectOptions{
		env: opt.Env, report: opt.Report,
		credential: func() buildcache.Credential {
			user, password := access.Username, access.Password
			if user == "" && opt.Credential != nil {
				user, password = opt.Credential(p)
			}
			return buildcache.Credential{Username: user, Password: password}
		},
	})
	if err != nil {
		return 0, err
	}
	res, err := copyPackages(ctx, local, remote, p.Hashes, buildcache.CopyOptions{})
	if err != nil {
		return 0, err
	}
	gone := len(p.Hashes) - len(res.Copied) - len(res.Present)
	opt.Report(fmt.Sprintf("%s: %d packages pushed, %d had been there, %d are no longer in the local binary cache", p.URL, len(res.Copied), len(res.Present), gone))
	sent := len(res.Copied) + len(res.Present)
	if err := s.removePending(PendingPush{URL: p.URL, Hashes: p.Hashes}); err != nil {
		return sent, err
	}
	for tag, img := range p.Images {
		if err := remote.Tag(ctx, tag, img); errors.Is(err, buildcache.ErrNotFound) {
			opt.Report(fmt.Sprintf("%v; the next build that pushes there makes the image", err))
			continue
		} else if err != nil {
			return sent, err
		}
		opt.Report(fmt.Sprintf("%s: an image of the packages has the tag %s", p.URL, tag))
	}
	return sent, s.removePending(p)
}
