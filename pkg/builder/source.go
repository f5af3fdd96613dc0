package builder

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A copySource is what a copy step copies, identified.
type copySource struct {
	// key identifies names and contents; "" while the stage that it comes
	// from is not known.
	key string
	// files are those of the context, in walking order.
	files []sourceFile
}

// A sourceFile is a file of the context as it was when the build was planned.
type sourceFile struct {
	// match counts the sources that this one belongs to, as globs match
	// them; rel is its path below the match ("." for the match itself).
	match int
	rel   string
	// path in the context.
	path string
	link string
	// There may be a million of these: no fs.FileInfo, which is large.
	mode     fs.FileMode
	size     int64
	modified time.Time
	sha256   [sha256.Size]byte
	known    bool // the digest
}

// Name implements fs.FileInfo.
func (f *sourceFile) Name() string { return path.Base(f.path) }

// Size implements fs.FileInfo.
func (f *sourceFile) Size() int64 { return f.size }

// Mode implements fs.FileInfo.
func (f *sourceFile) Mode() fs.FileMode { return f.mode }

// ModTime implements fs.FileInfo.
func (f *sourceFile) ModTime() time.Time { return f.modified }

// IsDir implements fs.FileInfo.
func (f *sourceFile) IsDir() bool { return f.mode.IsDir() }

// Sys implements fs.FileInfo.
func (f *sourceFile) Sys() any { return nil }

func (f *sourceFile) describe(info fs.FileInfo) {
	f.mode, f.size, f.modified = info.Mode(), info.Size(), info.ModTime()
}

// isURL reports whether a source is fetched from the web.
func isURL(source string) bool {
	u, err := url.Parse(source)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// copySource identifies what step copies.
func (p *Plan) copySource(step recipe.Copy, states map[string]state) (*copySource, error) {
	if step.From != "" {
		return &copySource{key: extend(states[step.From].key, step.Sources...)}, nil
	}
	if len(step.Sources) == 1 && isURL(step.Sources[0]) {
		return &copySource{key: keyOf("url", step.Sources[0], step.Checksum)}, nil
	}
	c := &contextReader{dir: p.Context, excludes: step.Exclude, known: p.contents}
	return c.read(step.Sources)
}

// A contextReader reads the build context. Links that lead out of it are not
// followed, whatever happens meanwhile.
type contextReader struct {
	dir      string
	excludes []string
	root     *os.Root
	ignore   *patternmatcher.PatternMatcher
	files    []sourceFile
	// known are files that need not be read.
	known *cache.Contents
}

func (c *contextReader) read(sources []string) (_ *copySource, err error) {
	if c.root, err = os.OpenRoot(c.dir); err != nil {
		return nil, &InputError{Subject: "context " + c.dir, Err: err}
	}
	defer func() { err = errors.Join(err, c.root.Close()) }()
	if c.ignore, err = c.readIgnore(); err != nil {
		return nil, err
	}
	matches := 0
	for _, source := range sources {
		found, err := c.glob(source)
		if err != nil {
			return nil, err
		}
		for _, match := range found {
			from := len(c.files)
			if err := c.walk(match, matches); err != nil {
				return nil, sourceError(source, err)
			}
			if err := c.hashAll(c.files[from:]); err != nil {
				return nil, sourceError(source, err)
			}
			matches++
		}
	}
	return &copySource{key: c.key(), files: c.files}, nil
}

var errNotInContext = errors.New("the build context has no such file or directory")

func sourceError(source string, err error) error {
	hint := "paths start at the build context and cannot leave it"
	switch {
	case errors.Is(err, errChanging):
		hint = changingHint
	case errors.Is(err, fs.ErrNotExist):
		err = errNotInContext
	case errors.Is(err, fs.ErrPermission):
		hint = "you may not read it; change its permissions or name it in .containerignore"
	}
	return &InputError{Subject: "copy " + source, Err: err, Hint: hint}
}

// readIgnore reads .containerignore, else .dockerignore; see dockerignore in
// docker's build documentation for the patterns.
func (c *contextReader) readIgnore() (*patternmatcher.PatternMatcher, error) {
	for _, name := range []string{".containerignore", ".dockerignore"} {
		data, err := c.root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &InputError{Subject: name, Err: err}
		}
		return parseIgnore(name, data)
	}
	return patternmatcher.New(nil)
}

func parseIgnore(name string, data []byte) (*patternmatcher.PatternMatcher, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, &InputError{Subject: name, Err: err}
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, &InputError{Subject: name, Err: err, Hint: "patterns are as in .dockerignore files"}
	}
	return m, nil
}

// glob returns the paths in the context that source stands for.
func (c *contextReader) glob(source string) ([]string, error) {
	clean := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(source)), "/")
	if clean == "" {
		clean = "."
	}
	if !strings.ContainsAny(clean, `*?[\`) {
		if _, err := c.root.Stat(clean); err != nil {
			return nil, sourceError(source, err)
		}
		if c.ignored(clean) && !c.ignore.Exclusions() {
			return nil, sourceError(source, errors.New("it is ignored by .containerignore or .dockerignore"))
		}
		return []string{clean}, nil
	}
	found, err := fs.Glob(c.root.FS(), clean)
	if err != nil {
		return nil, sourceError(source, err)
	}
	found = slices.DeleteFunc(found, func(name string) bool { return c.ignored(name) })
	if len(found) == 0 {
		return nil, sourceError(source, errors.New("no file matches (or all are ignored)"))
	}
	return found, nil
}

func (c *contextReader) ignored(name string) bool {
	ignored, err := c.ignore.MatchesOrParentMatches(name)
	return err == nil && ignored && name != "."
}

// walk records match and, when it is a directory, all below it.
func (c *contextReader) walk(match string, n int) error {
	exclude, err := patternmatcher.New(c.excludes)
	if err != nil {
		return fmt.Errorf("exclude: %w", err)
	}
	top, err := c.root.Stat(match)
	if err != nil {
		return err
	}
	if !top.IsDir() {
		return c.add(sourceFile{match: n, rel: ".", path: match}, top)
	}
	return fs.WalkDir(c.root.FS(), match, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := "."
		if name != match {
			rel = strings.TrimPrefix(name, strings.TrimSuffix(match, ".")+"/")
			if match == "." {
				rel = name
			}
		}
		excluded, err := exclude.MatchesOrParentMatches(rel)
		if err != nil {
			return err
		}
		if rel != "." && (excluded || c.ignored(name)) {
			// A later "!pattern" may bring a file below back.
			if d.IsDir() && !c.ignore.Exclusions() && !exclude.Exclusions() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return c.add(sourceFile{match: n, rel: rel, path: name}, info)
	})
}

// add identifies one file.
func (c *contextReader) add(f sourceFile, info fs.FileInfo) (err error) {
	f.describe(info)
	switch mode := f.mode; {
	case mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		f.link, err = c.root.Readlink(f.path)
	case mode.IsRegular():
		f.sha256, f.known = c.known.Get(info) // else see hashAll
	case f.rel == ".":
		return fmt.Errorf("it is neither a file nor a directory but %s", mode.Type())
	default:
		return nil // sockets, devices and fifos are not copied
	}
	if err == nil {
		c.files = append(c.files, f)
	}
	return err
}

// hashAll identifies the contents of regular files that are not known, several
// at a time.
func (c *contextReader) hashAll(files []sourceFile) error {
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i := range files {
		f := &files[i]
		if !f.mode.IsRegular() || f.known {
			continue
		}
		g.Go(func() error { return c.hash(f) })
	}
	return g.Wait()
}

// hash notes what the file is and its digest, both of one moment: a file that
// grows or is replaced meanwhile must not get the size of one state and the
// key of another.
func (c *contextReader) hash(src *sourceFile) (err error) {
	// O_NONBLOCK: a pipe in the file's place would wait for a writer.
	f, err := c.root.OpenFile(src.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	src.describe(info)
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if !src.mode.IsRegular() || n != src.size {
		return errChanging
	}
	src.sha256, src.known = [sha256.Size]byte(h.Sum(nil)), true
	c.known.Put(f, info, src.sha256)
	return nil
}

// sameContext makes sure that a step copies what the context had when the build
// was planned: an image of two states of it would be nobody's.
func sameContext(before, now PlannedStep) error {
	step, ok := now.step.(recipe.Copy)
	if !ok || step.From != "" || before.source == nil || before.source.key == now.source.key {
		return nil
	}
	return &InputError{Subject: "copy " + strings.Join(step.Sources, " "), Err: errors.New("files have changed since the build was planned"), Hint: changingHint}
}

const changingHint = "run the build again when nothing writes to the context"

// errChanging says that a file of the context is not at rest.
var errChanging = errors.New("the file changed while it was being read")

// key does not depend on times or owners in the context.
func (c *contextReader) key() string {
	k := newKey("context")
	for i := range c.files {
		f := &c.files[i]
		k.add(strconv.Itoa(f.match), f.rel, path.Base(f.path), f.mode.String(), f.link, f.digest())
	}
	return k.text()
}

// digest is the content's in hex, "" for what has none.
func (f *sourceFile) digest() string {
	if !f.known {
		return ""
	}
	return hex.EncodeToString(f.sha256[:])
}

// entry is the file as an entry of a layer, under the given name.
func (f *sourceFile) entry(context, name string) (layer.Entry, error) {
	hdr, err := tar.FileInfoHeader(f, f.link)
	if err != nil {
		return layer.Entry{}, err
	}
	hdr.Name = name
	hdr.Uid, hdr.Gid = 0, 0
	return layer.Entry{Header: *hdr, Open: func() (io.ReadCloser, error) { return f.open(context) }}, nil
}

// open reads the file again and makes sure that it is what was planned.
func (f *sourceFile) open(context string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(context)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &verifiedFile{File: file, sum: sha256.New(), want: f.sha256, name: f.path}, nil
}

// A verifiedFile fails at its end when its content is not the wanted.
type verifiedFile struct {
	*os.File
	sum  hash.Hash
	want [sha256.Size]byte
	name string
}

// Read hides os.File's other ways to be read.
func (v *verifiedFile) Read(p []byte) (int, error) {
	n, err := v.File.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && [sha256.Size]byte(v.sum.Sum(nil)) != v.want {
		return n, v.changed()
	}
	return n, err
}

// WriteTo keeps io.Copy from passing Read by.
func (v *verifiedFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{v})
}

func (v *verifiedFile) changed() error {
	return &InputError{Subject: "copy " + v.name, Err: errors.New("the file changed while it was being copied"), Hint: changingHint}
}
