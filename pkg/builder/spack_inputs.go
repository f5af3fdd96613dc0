package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/rootfs"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// spackInputs are what of the build context a spack step works with.
type spackInputs struct {
	// key identifies all of it.
	key string
	env *spack.Environment
	// lock is the lock file beside the environment; nil if there is none.
	lock []byte
	// repos, scopes and beside are directories and files of the context:
	// package repositories, configuration, and what the environment names by
	// paths that start where it is.
	repos, scopes, beside []spackFiles
	// tool is the directory of the Spack to use, in the context or absolute;
	// "" is the image's own.
	tool string
}

// spackFiles are a file or directory of the context and where it goes below
// the environment's directory.
type spackFiles struct {
	target string
	source *buildcontext.Source
}

// spackInputs reads what the step names. Mistakes in it are input errors.
func (p *Plan) spackInputs(step recipe.SpackInstall) (*spackInputs, error) {
	in := &spackInputs{}
	name, data, err := p.environmentFile(step)
	if err != nil {
		return nil, err
	}
	if in.env, err = spack.ParseEnvironment(name, data); err != nil {
		return nil, &InputError{Err: err, Hint: "correct the environment", Code: fail.EnvironmentInvalid}
	}
	if _, err := in.pushedTo(step); err != nil {
		return nil, err
	}
	parts := []string{"spack", string(data)}
	dir := ""
	if step.Environment != "" {
		dir = path.Dir(filepath.ToSlash(step.Environment))
		lock := path.Join(dir, spack.LockFileName)
		if in.lock, err = p.readContext(lock); errors.Is(err, fs.ErrNotExist) {
			err = nil
		} else if err != nil {
			return nil, &InputError{Subject: lock, Err: err}
		}
		parts = append(parts, string(in.lock))
		if in.lock != nil {
			if _, err := spack.ParseLock(filepath.Join(p.Context, lock), in.lock); err != nil {
				return nil, &InputError{Err: err, Hint: "remove it and let the build write it again", Code: fail.LockInvalid}
			}
		}
	}
	for i, repo := range step.Repos {
		parts = append(parts, in.addFiles(p, &in.repos, repo, path.Join(fmt.Sprintf("repos/%d", i+1), p.repoPlace(repo)), &err))
	}
	for i, scope := range step.Scopes {
		parts = append(parts, in.addFiles(p, &in.scopes, scope, fmt.Sprintf("scopes/%d", i+1), &err))
	}
	for _, rel := range besides(in.env) {
		parts = append(parts, in.addFiles(p, &in.beside, path.Join(dir, rel), rel, &err))
	}
	if err != nil {
		return nil, err
	}
	tool, err := p.spackTool(in, step.Spack)
	if err != nil {
		return nil, err
	}
	in.key = keyOf(append(parts, tool)...)
	return in, nil
}

// addFiles adds a file or directory and returns its key. After an error it
// does nothing.
func (in *spackInputs) addFiles(p *Plan, list *[]spackFiles, source, target string, err *error) string {
	if *err != nil {
		return ""
	}
	src, e := p.copySource(recipe.Copy{Sources: []string{source}}, nil)
	if e != nil {
		*err = e
		return ""
	}
	*list = append(*list, spackFiles{target: target, source: src})
	return src.Key
}

// mayHaveUpstreams reports whether the recipe says anything about upstreams.
func (in *spackInputs) mayHaveUpstreams(step recipe.SpackInstall) bool {
	return len(step.Upstreams) > 0 || in.env.Section("upstreams") != nil || in.scopesHave("upstreams.yaml")
}

// scopesHave reports whether a scope of the recipe has a file of this name.
func (in *spackInputs) scopesHave(name string) bool {
	return slices.ContainsFunc(in.scopes, func(f spackFiles) bool {
		return slices.ContainsFunc(f.source.Files, func(s buildcontext.File) bool { return path.Base(s.Rel) == name })
	})
}

// environmentFile returns the environment's text and its name for messages.
func (p *Plan) environmentFile(step recipe.SpackInstall) (name string, data []byte, err error) {
	if step.Environment != "" {
		data, err := p.readContext(step.Environment)
		if err != nil {
			return "", nil, &InputError{Subject: "environment " + step.Environment, Err: err, Hint: "it is the path of a spack.yaml, from the build context"}
		}
		return filepath.Join(p.Context, step.Environment), data, nil
	}
	inline := step.Inline
	if _, ok := inline["spack"]; !ok {
		inline = map[string]any{"spack": inline}
	}
	data, err = yaml.Marshal(inline)
	return "the recipe's environment", data, err
}

// repoPlace is where a package repository has to be for Spack to take it: since
// version 2 of the interface, repositories are Python packages below spack_repo.
// "" leaves it as it is, which is right for a directory with that structure.
func (p *Plan) repoPlace(dir string) string {
	var file struct {
		Repo struct{ Namespace, API string }
	}
	data, err := p.readContext(path.Join(filepath.ToSlash(dir), "repo.yaml"))
	if err != nil || yaml.Unmarshal(data, &file) != nil || !strings.HasPrefix(file.Repo.API, "v2") {
		return ""
	}
	return path.Join("spack_repo", strings.ReplaceAll(file.Repo.Namespace, ".", "/"))
}

func (p *Plan) readContext(name string) (_ []byte, err error) {
	root, err := os.OpenRoot(p.Context)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return root.ReadFile(strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/"))
}

// besides are the relative paths that an environment names.
func besides(env *spack.Environment) []string {
	var found []string
	add := func(name string) {
		u, err := url.Parse(name)
		if name == "" || path.IsAbs(name) || strings.ContainsAny(name[:1], "$~") || err == nil && u.Scheme != "" {
			return
		}
		found = append(found, path.Clean(name))
	}
	for _, r := range env.Repos {
		add(r.Path)
	}
	for _, i := range env.Include {
		if i.Git == "" {
			add(i.Path)
		}
	}
	return found
}

// spackTool finds the Spack that the step brings along and returns what
// identifies it.
func (p *Plan) spackTool(in *spackInputs, source *recipe.SpackSource) (key string, err error) {
	switch {
	case source == nil:
		return "", nil
	case source.Path != "":
		if in.tool = source.Path; !filepath.IsAbs(in.tool) {
			in.tool = filepath.Join(p.Context, in.tool)
		}
		if key, err = fingerprint(in.tool, "bin", "lib/spack", "etc/spack"); err != nil {
			return "", &InputError{Subject: "spack: path: " + source.Path, Err: err, Hint: "it is the directory of a Spack, with bin/spack in it"}
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

// write puts files of the context below a directory of an image.
func (f *spackFiles) write(context string, root *rootfs.Root, dir string) error {
	return f.source.Write(context, root, path.Join("/", dir, f.target))
}
