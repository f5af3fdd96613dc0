// Package buildcontext reads the build context: what the sources of a copy step
// name, what ignore files and exclude leave out, and the digests of files. It also
// downloads files from the web.
package buildcontext

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

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// A Source is what a copy step copies, identified.
type Source struct {
	// Key identifies names and contents; "" while the stage that it comes
	// from is not known.
	Key string
	// Matches are what the sources stand for in the context, and Files are
	// those of each, in walking order.
	Matches []Match
	Files   []File
	// attributes are the extended ones, by the number of the file.
	attributes map[int]map[string]string
}

// A File is a file of the context as it was when the build was planned.
type File struct {
	// Match is the number of the match that it belongs to; Rel is its path
	// below the match ("." for the match itself).
	Match int32
	// same is the number, from 1 on, of the first file that is this one under
	// another name, a hard link; 0 if this is the first.
	same int32
	Rel  string
	// Path in the context, which has no links.
	Path string
	// Link is where a symbolic link leads.
	Link string
	// There may be a million of these: no fs.FileInfo, which is large.
	mode fs.FileMode
	// size is the number of a device where it is one.
	size   int64
	sha256 [sha256.Size]byte
	known  bool // the digest
}

// Name implements fs.FileInfo.
func (f *File) Name() string { return path.Base(f.Path) }

// Size implements fs.FileInfo.
func (f *File) Size() int64 { return f.size }

// Mode implements fs.FileInfo.
func (f *File) Mode() fs.FileMode { return f.mode }

// ModTime implements fs.FileInfo.
func (f *File) ModTime() time.Time { return time.Time{} }

// IsDir implements fs.FileInfo.
func (f *File) IsDir() bool { return f.mode.IsDir() }

// Sys implements fs.FileInfo.
func (f *File) Sys() any { return nil }

func (f *File) describe(info fs.FileInfo) { f.mode, f.size = info.Mode(), info.Size() }

// IsURL reports whether a source is fetched from the web.
func IsURL(source string) bool {
	u, err := url.Parse(source)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// Options of Read.
type Options struct {
	// Dir is the context.
	Dir string
	// Mode is what the step gives its files, "" where it gives none.
	Mode string
	// Exclude are the patterns of the step.
	Exclude []string
	// Known are files that need not be read.
	Known *cache.Contents
}

// Read identifies what sources name in the context. Links that lead out of it
// are not followed, even while others change the context.
func Read(opt Options, sources []string) (*Source, error) {
	c := &reader{Options: opt, Selection: Selection{Exclude: opt.Exclude}}
	return c.read(sources)
}

// A reader reads the build context.
type reader struct {
	Options
	// Selection is open while the context is read.
	Selection
	source Source
	// first is the number of the first name of a file with several, from 1 on.
	first map[fileentry.Inode]int32
}

func (c *reader) read(sources []string) (_ *Source, err error) {
	if c.Root, err = rootfs.Open(c.Dir); err != nil {
		return nil, &failure.InputError{Subject: "context " + c.Dir, Err: err}
	}
	defer func() { err = errors.Join(err, c.Root.Close()) }()
	if c.ignore, err = c.readIgnore(); err != nil {
		return nil, err
	}
	for _, source := range sources {
		if err := c.add(source); err != nil {
			return nil, sourceError(source, err)
		}
	}
	mode, err := ParseMode(c.Mode)
	c.source.Key = c.key(mode)
	return &c.source, err
}

// add adds what a source stands for.
func (c *reader) add(source string) error {
	found, err := c.Find(source)
	if err != nil {
		return err
	}
	from := len(c.source.Files)
	var nothing error
	for i := range found {
		before := len(c.source.Files)
		err := c.Walk(&found[i], c.addFile)
		if errors.Is(err, errIgnored) || errors.Is(err, ErrExcluded) {
			nothing = err
			c.source.Files = c.source.Files[:before]
			continue
		}
		if err != nil {
			return err
		}
		c.source.Matches = append(c.source.Matches, found[i])
	}
	if len(c.source.Files) == from {
		return nothing
	}
	return c.hashAll(c.source.Files[from:])
}

var errNotInContext = errors.New("the build context has no such file or directory")

func sourceError(source string, err error) error {
	hint := "paths start at the build context and cannot leave it"
	switch {
	case errors.Is(err, errChanging):
		hint = ChangingHint
	case errors.Is(err, fs.ErrNotExist):
		err = errNotInContext
	case errors.Is(err, errIgnored):
		hint = "change the pattern that ignores it, or bring it back with a later !pattern"
	case errors.Is(err, ErrExcluded):
		hint = "change exclude, or do not copy it"
	case errors.Is(err, ErrNoMatch):
		hint = "compare the pattern with what is in the build context, and with exclude and the ignore file"
	case errors.Is(err, fs.ErrPermission):
		hint = "you may not read it; change its permissions or name it in .containerignore"
	}
	return &failure.InputError{Subject: "copy " + source, Err: err, Hint: hint}
}

// readIgnore reads .containerignore, else .dockerignore; see dockerignore in
// docker's build documentation for the patterns.
func (c *reader) readIgnore() (*patterns, error) {
	for _, name := range []string{".containerignore", ".dockerignore"} {
		data, err := c.Root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &failure.InputError{Subject: name, Err: err}
		}
		return parseIgnore(name, data)
	}
	return nil, nil
}

func parseIgnore(name string, data []byte) (*patterns, error) {
	list, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, &failure.InputError{Subject: name, Err: err}
	}
	m, err := newPatterns(list)
	if err != nil {
		return nil, &failure.InputError{Subject: name, Err: err, Hint: "patterns are as in .dockerignore files"}
	}
	return m, nil
}

// addFile identifies one file.
func (c *reader) addFile(f *rootfs.File, rel string) (err error) {
	src := File{Match: int32(len(c.source.Matches)), Rel: rel, Path: cmp.Or(strings.TrimPrefix(f.Name, "/"), ".")}
	src.describe(f.Info)
	switch mode := src.mode; {
	case mode.IsDir(), mode.Type() == fs.ModeNamedPipe:
	case mode.Type() == fs.ModeSymlink:
		src.Link, err = f.Readlink()
	case mode.IsRegular():
		src.same = c.linked(f.Info)
		src.sha256, src.known = c.Known.Get(f.Info) // else see hashAll
	case mode&fs.ModeDevice != 0:
		src.size = deviceNumber(f.Info)
	default:
		return nil // a socket is nothing without its process
	}
	if err == nil && src.same == 0 {
		err = c.addAttributes(f)
	}
	if err == nil {
		c.source.Files = append(c.source.Files, src)
	}
	return err
}

// linked returns the number, from 1 on, of an earlier file that is the same one
// as the next, 0 if there is none.
func (c *reader) linked(info fs.FileInfo) int32 {
	if !fileentry.HasLinks(info) {
		return 0
	}
	id := fileentry.InodeOf(info)
	if first := c.first[id]; first != 0 {
		return first
	}
	if c.first == nil {
		c.first = map[fileentry.Inode]int32{}
	}
	c.first[id] = int32(len(c.source.Files) + 1)
	return 0
}

func deviceNumber(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int64(st.Rdev) //nolint:unconvert // not a uint64 on every architecture
}

// addAttributes records the extended attributes of the next file.
func (c *reader) addAttributes(f *rootfs.File) error {
	if !f.Info.IsDir() && !f.Info.Mode().IsRegular() {
		return nil
	}
	var hdr tar.Header
	if err := fileentry.ReadAttributes(f, &hdr); err != nil {
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
	c.source.attributes[len(c.source.Files)] = kept
	return nil
}

// isDesktopAttribute reports whether a program of the host, such as the one that
// downloaded the file, set the attribute for itself. It differs from host to host.
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
func (c *reader) hashAll(files []File) error {
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
			first := &c.source.Files[f.same-1]
			f.mode, f.size, f.sha256, f.known = first.mode, first.size, first.sha256, first.known
		}
	}
	return nil
}

// hash records what the file is and its digest, both at one moment: a file that
// grows or is replaced meanwhile must not get the size of one state and the
// key of another.
func (c *reader) hash(src *File) (err error) {
	f, err := c.Root.OpenExact(src.Path)
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
	c.Known.Put(f, info, src.sha256)
	return nil
}

// ChangingHint is the way out where files change during a build.
const ChangingHint = "run the build again when nothing writes to the context"

var errChanging = errors.New("the file changed while it was being read")

// key does not depend on times or owners in the context, nor on permissions
// that the step replaces.
func (c *reader) key(mode int64) string {
	k := stepkey.New("context")
	for i := range c.source.Files {
		f := &c.source.Files[i]
		name := path.Base(f.Path)
		if f.Rel == "." {
			name = c.source.Matches[f.Match].Base()
		}
		k.Add(strconv.Itoa(int(f.Match)), f.Rel, name, f.modeWith(mode).String(), f.Link, f.digest())
		if f.same != 0 && c.source.Files[f.same-1].Path != f.Path {
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
func (f *File) modeWith(mode int64) fs.FileMode {
	if mode == KeptMode {
		return f.mode
	}
	hdr := tar.Header{Typeflag: tar.TypeReg, Mode: ModeFor(mode, f.mode)}
	return f.mode.Type() | hdr.FileInfo().Mode()
}

// digest is the content's in hex, "" for what has none.
func (f *File) digest() string {
	if !f.known {
		return ""
	}
	return hex.EncodeToString(f.sha256[:])
}

// Entry is the n-th file as an entry of a layer, under the given name.
func (c *Source) Entry(n int, context, name string) (layer.Entry, error) {
	f := &c.Files[n]
	hdr, err := tar.FileInfoHeader(f, f.Link)
	if err != nil {
		return layer.Entry{}, err
	}
	hdr.Name, hdr.PAXRecords = name, c.attributes[c.First(n)-1]
	if f.mode&fs.ModeDevice != 0 {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(uint64(f.size))), int64(unix.Minor(uint64(f.size)))
	}
	return layer.Entry{Header: *hdr, Open: func() (io.ReadCloser, error) { return f.Open(context) }}, nil
}

// First is the number, from 1 on, of the first file that is the n-th, from 0 on.
func (c *Source) First(n int) int { return cmp.Or(int(c.Files[n].same), n+1) }

// Linked are the numbers, from 1 on, of the first files that are also others.
func (c *Source) Linked() map[int]bool {
	linked := map[int]bool{}
	for i := range c.Files {
		if c.Files[i].same != 0 {
			linked[int(c.Files[i].same)] = true
		}
	}
	return linked
}

// Open reads the file again and makes sure that it is what was planned.
func (f *File) Open(context string) (io.ReadCloser, error) {
	root, err := rootfs.Open(context)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenExact(f.Path)
	if err != nil {
		return nil, err
	}
	return &verifiedFile{File: file, sum: sha256.New(), want: f.sha256, name: f.Path}, nil
}

// A verifiedFile fails at its end when its content has changed.
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

// WriteTo makes io.Copy call Read.
func (v *verifiedFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{v})
}

func (v *verifiedFile) changed() error {
	return &failure.InputError{Subject: "copy " + v.name, Err: errors.New("the file changed while it was being copied"), Hint: ChangingHint}
}
