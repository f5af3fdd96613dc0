package spackinstall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A Context is the build context, which a step's inputs come from.
type Context interface {
	// Dir is its directory on the host.
	Dir() string
	// ReadFile returns the contents of a file, by its path in the context.
	ReadFile(name string) ([]byte, error)
	// Files looks at a file or a directory, without what the patterns exclude.
	Files(name string, exclude ...string) (Files, error)
}

// Files are a file or a directory of the build context, as Context found it.
type Files interface {
	// Key identifies names and contents.
	Key() string
	// Names are the paths below the directory; "." is a file itself.
	Names() []string
	// Write writes them into a root. A file that has changed is an error.
	Write(root *rootfs.Root, dir string) error
	// String names them in messages.
	String() string
}

// Inputs are the files of the build context that a spack step works with.
type Inputs struct {
	// Key identifies all of them. LockKey identifies what Spack's choice of
	// packages depends on: all but the sources of develop.
	Key, LockKey string
	env          *spack.Environment
	// lock is the lock file beside the environment; nil if there is none.
	lock []byte
	// repos, scopes and beside are package repositories, configuration, and
	// the relative paths that the environment names.
	repos, scopes, beside []placed
	// sources are the directories that develop names, and moved those packages
	// of it whose sources cannot be where their path leads.
	sources []placed
	moved   []spack.Develop
	// tool is the host's directory of the Spack to use; "" is the image's own.
	tool string
	// mirrors are those of the environment and of what it includes, with paths of
	// this host; unseen tells that configuration which only Spack can find, or
	// includes, may have others.
	mirrors []spack.Mirror
	unseen  bool
	// perhaps are mirrors of conditional configuration.
	perhaps []spack.Mirror
	// upstreams tells that included configuration has some.
	upstreams bool
	develop   []source
}

// placed are files with their directory below the environment's. Those that are
// optional are left out if they have changed meanwhile.
type placed struct {
	target   string
	files    Files
	optional bool
}

// ReadInputs reads the files that the step names. Mistakes in them are input
// errors.
func ReadInputs(c Context, step recipe.SpackInstall) (*Inputs, error) {
	in := &Inputs{}
	name, data, err := environmentFile(c, step)
	if err != nil {
		return nil, err
	}
	if in.env, err = spack.ParseEnvironment(name, data); err != nil {
		return nil, &failure.InputError{Err: err, Hint: "correct the environment", Code: failure.EnvironmentInvalid}
	}
	parts := []string{"spack", string(data)}
	dir := ""
	if step.Environment != "" {
		dir = path.Dir(filepath.ToSlash(step.Environment))
		if in.lock, err = readLock(c, path.Join(dir, spack.LockFileName)); err != nil {
			return nil, err
		}
		parts = append(parts, string(in.lock))
	}
	add := func(list *[]placed, source, target string) {
		if err == nil {
			var files Files
			if files, err = c.Files(source); err == nil {
				*list = append(*list, placed{target: target, files: files})
				parts = append(parts, files.Key())
			}
		}
	}
	for i, repo := range step.Repos {
		add(&in.repos, repo, path.Join(fmt.Sprintf("repos/%d", i+1), repoPlace(c, repo)))
	}
	for i, scope := range step.Scopes {
		add(&in.scopes, scope, fmt.Sprintf("scopes/%d", i+1))
	}
	if err != nil {
		return nil, err
	}
	beside, err := in.follow(c, dir, step.Scopes)
	if err != nil {
		return nil, err
	}
	parts = append(parts, beside...)
	if _, err := pushedTo(step, in.mirrors, in.unseen); err != nil {
		return nil, err
	}
	tool, err := in.findTool(c, step.Spack)
	if err != nil {
		return nil, err
	}
	in.LockKey = stepkey.Of(append(parts, tool)...)
	in.Key = in.LockKey
	sources, err := in.addSources(c, dir)
	if len(sources) > 0 {
		in.Key = stepkey.Of(append([]string{"develop", in.LockKey}, sources...)...)
	}
	return in, err
}

// readLock reads a lock file of the context; a missing one is nil.
func readLock(c Context, name string) ([]byte, error) {
	data, err := c.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && data == nil {
		return nil, nil
	}
	if err != nil {
		return nil, &failure.InputError{Subject: name, Err: err}
	}
	if _, err := spack.ParseLock(filepath.Join(c.Dir(), name), data); err != nil {
		return nil, &failure.InputError{Err: err, Hint: "remove it and let the build write it again", Code: failure.LockInvalid}
	}
	return data, nil
}

// mayHaveUpstreams reports whether the recipe configures upstreams.
func (in *Inputs) mayHaveUpstreams(step recipe.SpackInstall) bool {
	return len(step.Upstreams) > 0 || in.env.Section("upstreams") != nil || in.upstreams || in.unseen
}

// environmentFile returns the environment's text and its name for messages.
func environmentFile(c Context, step recipe.SpackInstall) (name string, data []byte, err error) {
	if step.Environment != "" {
		data, err := c.ReadFile(step.Environment)
		if err != nil {
			return "", nil, &failure.InputError{Subject: "environment " + step.Environment, Err: err, Hint: "it is the path of a spack.yaml, from the build context"}
		}
		return filepath.Join(c.Dir(), step.Environment), data, nil
	}
	inline := step.Inline
	if _, ok := inline["spack"]; !ok {
		inline = map[string]any{"spack": inline}
	}
	data, err = yaml.Marshal(inline)
	return "the recipe's environment", data, err
}

// repoPlace returns where Spack expects a package repository: since version 2 of
// the interface, repositories are Python packages below spack_repo. "" leaves it
// as it is, which is right for a directory with that structure.
func repoPlace(c Context, dir string) string {
	var file struct {
		Repo struct{ Namespace, API string }
	}
	data, err := c.ReadFile(path.Join(filepath.ToSlash(dir), "repo.yaml"))
	if err != nil || yaml.Unmarshal(data, &file) != nil || !strings.HasPrefix(file.Repo.API, "v2") {
		return ""
	}
	return path.Join("spack_repo", strings.ReplaceAll(file.Repo.Namespace, ".", "/"))
}

// findTool finds the Spack that the step brings along, and returns a key of it.
func (in *Inputs) findTool(c Context, source *recipe.SpackSource) (key string, err error) {
	switch {
	case source == nil:
		return "", nil
	case source.Path != "":
		if in.tool = source.Path; !filepath.IsAbs(in.tool) {
			in.tool = filepath.Join(c.Dir(), in.tool)
		}
		if key, err = fingerprint(in.tool, "bin", "lib/spack", "etc/spack"); err != nil {
			return "", &failure.InputError{Subject: "spack: path: " + source.Path, Err: err, Hint: "it is the directory of a Spack, with bin/spack in it"}
		}
		return key, nil
	}
	return source.Version + " " + source.Git, nil
}

// fingerprint identifies large directories by the names, sizes and times of
// their files: a Spack has ten thousand.
func fingerprint(dir string, below ...string) (string, error) {
	h := sha256.New()
	for _, sub := range below {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, ".pyc") {
				return err
			}
			info, err := d.Info()
			if err == nil {
				_, err = fmt.Fprintln(h, strings.TrimPrefix(name, dir), info.Size(), info.ModTime().UnixNano())
			}
			return err
		})
		if err != nil && (sub == "bin" || !errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// pushedTo returns those of the mirrors that a step pushes to. Unseen tells that
// there may be others.
func pushedTo(step recipe.SpackInstall, mirrors []spack.Mirror, unseen bool) ([]spack.Mirror, error) {
	if step.Buildcache == nil {
		return nil, nil
	}
	var list []spack.Mirror
	for _, name := range step.Buildcache.Push {
		m := mirrorIn(mirrors, name)
		switch {
		case m == nil && unseen:
			continue // Spack is asked when the step runs
		case m == nil:
			return nil, &failure.InputError{Subject: "buildcache: push", Err: fmt.Errorf("the environment has no mirror %q", name), Hint: "its mirrors are those of mirrors: in " + step.Environment + " and in what it includes"}
		case step.Buildcache.Tag != "" && !strings.HasPrefix(m.Push.URL, "oci"):
			return nil, &failure.InputError{Subject: "buildcache: tag", Err: fmt.Errorf("mirror %q, %s: %w", name, m.Push.URL, buildcache.ErrNoTags), Hint: "leave out tag:, or push to a registry"}
		}
		list = append(list, *m)
	}
	return list, nil
}
