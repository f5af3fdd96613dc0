package builder

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A copySource is what a copy step copies, identified.
type copySource struct {
	// key identifies names and contents; "" while the stage that it comes
	// from is not known.
	key string
	// matches are what the sources stand for in the context, and files are
	// those of each, in walking order.
	matches []match
	files   []sourceFile
	// attributes are the extended ones, by the number of the file.
	attributes map[int]map[string]string
}

// A sourceFile is a file of the context as it was when the build was planned.
type sourceFile struct {
	// match is the number of the match that it belongs to; rel is its path
	// below the match ("." for the match itself).
	match int32
	// same is the number, from 1 on, of the first file that is this one under
	// another name, a hard link; 0 if this is the first.
	same int32
	rel  string
	// path in the context, which has no links.
	path string
	link string
	// There may be a million of these: no fs.FileInfo, which is large.
	mode fs.FileMode
	// size is the number of a device where it is one.
	size   int64
	sha256 [sha256.Size]byte
	known  bool // the digest
}

// Name implements fs.FileInfo.
func (f *sourceFile) Name() string { return path.Base(f.path) }

// Size implements fs.FileInfo.
func (f *sourceFile) Size() int64 { return f.size }

// Mode implements fs.FileInfo.
func (f *sourceFile) Mode() fs.FileMode { return f.mode }

// ModTime implements fs.FileInfo.
func (f *sourceFile) ModTime() time.Time { return time.Time{} }

// IsDir implements fs.FileInfo.
func (f *sourceFile) IsDir() bool { return f.mode.IsDir() }

// Sys implements fs.FileInfo.
func (f *sourceFile) Sys() any { return nil }

func (f *sourceFile) describe(info fs.FileInfo) { f.mode, f.size = info.Mode(), info.Size() }

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
	c := &contextReader{dir: p.Context, newMode: step.Mode, known: p.contents}
	c.exclude = step.Exclude
	return c.read(step.Sources)
}

// A contextReader reads the build context. Links that lead out of it are not
// followed, whatever happens meanwhile.
type contextReader struct {
	dir string
	// newMode is the one that the step gives, "" where it gives none.
	newMode string
	// known are files that need not be read.
	known *cache.Contents
	// selection is open while the context is read.
	selection
	source copySource
	// first is the number of the first name of a file with several, from 1 on.
	first map[inode]int32
}

func (c *contextReader) read(sources []string) (_ *copySource, err error) {
	if c.root, err = rootfs.Open(c.dir); err != nil {
		return nil, &InputError{Subject: "context " + c.dir, Err: err}
	}
	defer func() { err = errors.Join(err, c.root.Close()) }()
	if c.ignore, err = c.readIgnore(); err != nil {
		return nil, err
	}
	for _, source := range sources {
		if err := c.add(source); err != nil {
			return nil, sourceError(source, err)
		}
	}
	mode, err := parseMode(c.newMode)
	c.source.key = c.key(mode)
	return &c.source, err
}

// add adds what a source stands for.
func (c *contextReader) add(source string) error {
	found, err := c.find(source)
	if err != nil {
		return err
	}
	from := len(c.source.files)
	var nothing error
	for i := range found {
		before := len(c.source.files)
		err := c.walk(&found[i], c.addFile)
		if errors.Is(err, errIgnored) || errors.Is(err, errExcluded) {
			nothing = err
			c.source.files = c.source.files[:before]
			continue
		}
		if err != nil {
			return err
		}
		c.source.matches = append(c.source.matches, found[i])
	}
	if len(c.source.files) == from {
		return nothing
	}
	return c.hashAll(c.source.files[from:])
}

var errNotInContext = errors.New("the build context has no such file or directory")

func sourceError(source string, err error) error {
	hint := "paths start at the build context and cannot leave it"
	switch {
	case errors.Is(err, errChanging):
		hint = changingHint
	case errors.Is(err, fs.ErrNotExist):
		err = errNotInContext
	case errors.Is(err, errIgnored):
		hint = "change the pattern that ignores it, or bring it back with a later !pattern"
	case errors.Is(err, errExcluded):
		hint = "change exclude, or do not copy it"
	case errors.Is(err, errNoMatch):
		hint = "compare the pattern with what is in the build context, and with exclude and the ignore file"
	case errors.Is(err, fs.ErrPermission):
		hint = "you may not read it; change its permissions or name it in .containerignore"
	}
	return &InputError{Subject: "copy " + source, Err: err, Hint: hint}
}

// readIgnore reads .containerignore, else .dockerignore; see dockerignore in
// docker's build documentation for the patterns.
func (c *contextReader) readIgnore() (*patterns, error) {
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
	return nil, nil
}

func parseIgnore(name string, data []byte) (*patterns, error) {
	list, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, &InputError{Subject: name, Err: err}
	}
	m, err := newPatterns(list)
	if err != nil {
		return nil, &InputError{Subject: name, Err: err, Hint: "patterns are as in .dockerignore files"}
	}
	return m, nil
}

// addFile identifies one file.
func (c *contextReader) addFile(f *rootfs.File, rel string) (err error) {
	src := sourceFile{match: int32(len(c.source.matches)), rel: rel, path: cmp.Or(strings.TrimPrefix(f.Name, "/"), ".")}
	src.describe(f.Info)
	switch mode := src.mode; {
	case mode.IsDir(), mode.Type() == fs.ModeNamedPipe:
	case mode.Type() == fs.ModeSymlink:
		src.link, err = f.Readlink()
	case mode.IsRegular():
		src.same = c.linked(f.Info)
		src.sha256, src.known = c.known.Get(f.Info) // else see hashAll
	case mode&fs.ModeDevice != 0:
		src.size = deviceNumber(f.Info)
	default:
		return nil // a socket is nothing without its process
	}
	if err == nil && src.same == 0 {
		err = c.addAttributes(f)
	}
	if err == nil {
		c.source.files = append(c.source.files, src)
	}
	return err
}

// linked returns the number, from 1 on, of an earlier file that is the same one
// as the next, 0 if there is none.
func (c *contextReader) linked(info fs.FileInfo) int32 {
	if !hasLinks(info) {
		return 0
	}
	id := inodeOf(info)
	if first := c.first[id]; first != 0 {
		return first
	}
	if c.first == nil {
		c.first = map[inode]int32{}
	}
	c.first[id] = int32(len(c.source.files) + 1)
	return 0
}

func deviceNumber(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int64(st.Rdev) //nolint:unconvert // not a uint64 on every architecture
}

// addAttributes notes the extended attributes of the next file.
func (c *contextReader) addAttributes(f *rootfs.File) error {
	if !f.Info.IsDir() && !f.Info.Mode().IsRegular() {
		return nil
	}
	var hdr tar.Header
	if err := readAttributes(f, &hdr); err != nil {
		return err
	}
	kept := layer.Attributes(hdr.PAXRecords)
	maps.DeleteFunc(kept, func(key, _ string) bool { return isDesktopAttribute(key) })
	if len(kept) == 0 {
		return nil
	}
	if c.source.attributes == nil {
		c.source.attributes = map[int]map[string]string{}
	}
	c.source.attributes[len(c.source.files)] = kept
	return nil
}

// isDesktopAttribute reports whether an attribute was set by a program of the
// host that had to do with the file, such as the one that downloaded it: it is
// not part of what somebody wants to copy, and another one on each host.
func isDesktopAttribute(key string) bool {
	name := strings.TrimPrefix(key, "SCHILY.xattr.user.")
	for _, prefix := range []string{"xdg.", "mime", "baloo.", "com.apple.", "com.dropbox.", "DOSATTRIB", "Zone.Identifier"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// hashAll identifies the contents of regular files that are not known, several
// at a time.
func (c *contextReader) hashAll(files []sourceFile) error {
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i := range files {
		f := &files[i]
		if !f.mode.IsRegular() || f.known || f.same != 0 {
			continue
		}
		g.Go(func() error { return c.hash(f) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range files {
		if f := &files[i]; f.same != 0 {
			first := &c.source.files[f.same-1]
			f.mode, f.size, f.sha256, f.known = first.mode, first.size, first.sha256, first.known
		}
	}
	return nil
}

// hash notes what the file is and its digest, both of one moment: a file that
// grows or is replaced meanwhile must not get the size of one state and the
// key of another.
func (c *contextReader) hash(src *sourceFile) (err error) {
	f, err := c.root.OpenExact(src.path)
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

// key does not depend on times or owners in the context, nor on permissions
// that the step replaces.
func (c *contextReader) key(mode int64) string {
	k := stepkey.New("context")
	for i := range c.source.files {
		f := &c.source.files[i]
		name := path.Base(f.path)
		if f.rel == "." {
			name = c.source.matches[f.match].base()
		}
		k.Add(strconv.Itoa(int(f.match)), f.rel, name, f.modeWith(mode).String(), f.link, f.digest())
		if f.same != 0 && c.source.files[f.same-1].path != f.path {
			k.Add("the same as " + strconv.Itoa(int(f.same)))
		}
		if f.mode&fs.ModeDevice != 0 {
			k.Add("device " + strconv.FormatInt(f.size, 10))
		}
		attributes := c.source.attributes[i]
		for _, a := range slices.Sorted(maps.Keys(attributes)) {
			k.Add(a, attributes[a])
		}
	}
	return k.Text()
}

// modeWith is the file's mode where the step gives one.
func (f *sourceFile) modeWith(mode int64) fs.FileMode {
	if mode == keptMode {
		return f.mode
	}
	hdr := tar.Header{Typeflag: tar.TypeReg, Mode: modeFor(mode, f.mode)}
	return f.mode.Type() | hdr.FileInfo().Mode()
}

// digest is the content's in hex, "" for what has none.
func (f *sourceFile) digest() string {
	if !f.known {
		return ""
	}
	return hex.EncodeToString(f.sha256[:])
}

// entry is the n-th file as an entry of a layer, under the given name.
func (c *copySource) entry(n int, context, name string) (layer.Entry, error) {
	f := &c.files[n]
	hdr, err := tar.FileInfoHeader(f, f.link)
	if err != nil {
		return layer.Entry{}, err
	}
	hdr.Name, hdr.PAXRecords = name, c.attributes[c.first(n)-1]
	if f.mode&fs.ModeDevice != 0 {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(uint64(f.size))), int64(unix.Minor(uint64(f.size)))
	}
	return layer.Entry{Header: *hdr, Open: func() (io.ReadCloser, error) { return f.open(context) }}, nil
}

// first is the number, from 1 on, of the first file that is the n-th, from 0 on.
func (c *copySource) first(n int) int { return cmp.Or(int(c.files[n].same), n+1) }

// linked are the numbers, from 1 on, of the first files that are also others.
func (c *copySource) linked() map[int]bool {
	linked := map[int]bool{}
	for i := range c.files {
		if c.files[i].same != 0 {
			linked[int(c.files[i].same)] = true
		}
	}
	return linked
}

// open reads the file again and makes sure that it is what was planned.
func (f *sourceFile) open(context string) (io.ReadCloser, error) {
	root, err := rootfs.Open(context)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenExact(f.path)
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
