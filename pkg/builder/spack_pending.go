package builder

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
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
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

func (b *Builder) pendingPath(address string) string {
	return filepath.Join(b.spackCache("pending"), keyOf("pending", address)[:16]+".json")
}

// PendingPushes returns what builds could not send to binary caches.
func (b *Builder) PendingPushes() ([]PendingPush, error) {
	dir := b.spackCache("pending")
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

// remember adds to what is to be sent to the cache.
func (b *Builder) remember(p PendingPush) error {
	path := b.pendingPath(p.URL)
	if old, ok := readPending(path); ok {
		p.Hashes = append(p.Hashes, old.Hashes...)
		if old.Images != nil {
			maps.Copy(old.Images, p.Images)
			p.Images = old.Images
		}
	}
	slices.Sort(p.Hashes)
	p.Hashes = slices.Compact(p.Hashes)
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o600)
}

// forgetPushed takes packages and images that have been sent off the record.
func (b *Builder) forgetPushed(sent PendingPush) error {
	path := b.pendingPath(sent.URL)
	p, ok := readPending(path)
	if !ok {
		return nil
	}
	p.Hashes = slices.DeleteFunc(p.Hashes, func(h string) bool { return slices.Contains(sent.Hashes, h) })
	maps.DeleteFunc(p.Images, func(tag string, _ buildcache.Image) bool { _, there := sent.Images[tag]; return there })
	if len(p.Hashes)+len(p.Images) > 0 {
		data, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return atomicfile.Write(path, data, 0o600)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PushPending sends what builds could not send, and returns how many packages
// are at their cache now. What cannot be sent now either stays pending; the
// error, a *RegistryError, says why.
func (b *Builder) PushPending(ctx context.Context, opt PendingPushOptions) (sent int, err error) {
	pending, err := b.PendingPushes()
	if err != nil {
		return 0, err
	}
	local, err := b.localBuildcache(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range pending {
		n, err := b.pushOnePending(ctx, local, p, opt)
		sent += n
		if err != nil {
			errs = append(errs, &RegistryError{Op: "push", Image: p.URL, Err: err, Hint: "log in with 'podman login', give --creds, or set the variables that the environment names; the packages stay in the local binary cache"})
		}
	}
	return sent, errors.Join(errs...)
}

func (b *Builder) pushOnePending(ctx context.Context, local *buildcache.Cache, p PendingPush, opt PendingPushOptions) (int, error) {
	report := opt.Report
	if report == nil {
		report = func(string) {}
	}
	remote, err := b.openRemote(ctx, p.URL, remoteOptions{
		env: opt.Env, report: report,
		credential: func() buildcache.Credential {
			user, password := b.registries.Username, b.registries.Password
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
	report(fmt.Sprintf("%s: %d packages pushed, %d had been there, %d are no longer in the local binary cache", p.URL, len(res.Copied), len(res.Present), gone))
	sent := len(res.Copied) + len(res.Present)
	if err := b.forgetPushed(PendingPush{URL: p.URL, Hashes: p.Hashes}); err != nil {
		return sent, err
	}
	for tag, img := range p.Images {
		if err := remote.Tag(ctx, tag, img); errors.Is(err, buildcache.ErrNotFound) {
			report(fmt.Sprintf("%v; the next build that pushes there makes the image", err))
			continue
		} else if err != nil {
			return sent, err
		}
		report(fmt.Sprintf("%s: an image of the packages has the tag %s", p.URL, tag))
	}
	return sent, b.forgetPushed(p)
}

// copyPackages copies the packages with the given hashes.
func copyPackages(ctx context.Context, from, to *buildcache.Cache, hashes []string, opt buildcache.CopyOptions) (*buildcache.CopyResult, error) {
	for _, h := range hashes {
		opt.Filters = append(opt.Filters, buildcache.Filter{Hash: h})
	}
	opt.Dependencies = buildcache.NoDependencies
	if len(hashes) == 0 {
		return &buildcache.CopyResult{}, nil
	}
	return buildcache.Copy(ctx, from, to, opt)
}

// remoteOptions say how a binary cache is reached.
type remoteOptions struct {
	// credential returns what was given, perhaps nothing.
	credential func() buildcache.Credential
	env        map[string]string
	report     func(string)
	// slow is told, instead of report, that a server wants fewer requests.
	slow func(string)
}

// openRemote opens a binary cache with given credentials or, where there are
// none, with what the user has logged in with.
func (b *Builder) openRemote(ctx context.Context, address string, opt remoteOptions) (*buildcache.Cache, error) {
	files := buildcache.AuthFiles(b.registries.loginFiles()...)
	return buildcache.Open(ctx, address, buildcache.Options{
		Credentials: func(ctx context.Context, host, repository string) (buildcache.Credential, error) {
			if c := opt.credential(); c.Password != "" || c.AccessToken != "" {
				return c, nil
			}
			return files(ctx, host, repository)
		},
		Insecure: b.registries.TLSVerify != nil && !*b.registries.TLSVerify,
		CertDir:  b.registries.CertDir,
		Proxy:    proxyOf(opt.env),
		Report:   opt.report,
		Slow:     opt.slow,
	})
}
