package buildcache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A directory is a cache of layout 3 on this host, which can be written to.
type directory struct {
	layout3
	local localFiles
}

func newDirectory(local localFiles) *directory {
	return &directory{layout3{local}, local}
}

// unfinished starts the names of files that are being written. Their writers
// hold a lock on them, so that what others left behind can be told apart.
const unfinished = atomicfile.Prefix

func (d *directory) put(_ context.Context, b Blob, from content) error {
	name := v3Path(b.Digest)
	return d.write(name, time.Time{}, func(w io.Writer) error {
		r, err := from()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, verified(b, r))
		return err
	})
}

func (d *directory) commit(_ context.Context, r ref, m *manifest) error {
	return d.write(r.key, m.date, func(w io.Writer) error {
		_, err := w.Write(m.raw)
		return err
	})
}

func (d *directory) putIndex(ctx context.Context, b Blob, from content) error {
	if err := d.put(ctx, b, from); err != nil {
		return err
	}
	raw, err := encodeV3(v3BlobOf(b, "none"))
	if err != nil {
		return err
	}
	write := func(w io.Writer) error { _, err := w.Write(raw); return err }
	if err := d.write(v3Index, time.Time{}, write); err != nil {
		return err
	}
	if _, err := d.local.stat(ctx, v3Layout); !errors.Is(err, ErrNotFound) {
		return err
	}
	return d.write(v3Layout, time.Time{}, func(w io.Writer) error {
		_, err := io.WriteString(w, `{"signing": "gpg"}`)
		return err
	})
}

// write makes a file appear with all its content, or not at all.
func (d *directory) write(name string, date time.Time, fill func(io.Writer) error) (err error) {
	dir, f, err := d.create(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(d.local.root, name), err)
	}
	defer dir.Close() // later than the file, whose name begins with it
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if !date.IsZero() {
		if err := os.Chtimes(descriptorPath(f.File), date, date); err != nil {
			return err
		}
	}
	return f.Commit()
}

// create begins a file, in a directory that it makes and opens. One that is
// empty may be removed by remove at any time.
func (d *directory) create(name string) (dir *os.File, f *atomicfile.File, err error) {
	if err := os.MkdirAll(d.local.root, 0o777); err != nil {
		return nil, nil, err
	}
	t, err := d.local.enter()
	if err != nil {
		return nil, nil, err
	}
	defer t.Close()
	for attempt := 0; ; attempt++ {
		if dir, err = d.openDir(t, path.Dir(name)); err == nil {
			here := descriptorPath(dir)
			if f, err = atomicfile.CreateNamed(here, here+"/"+path.Base(name), 0o666); err == nil { // the umask decides
				return dir, f, nil
			}
			_ = dir.Close() // nothing was written
		}
		if attempt == 2 || !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
}

// openDir makes a directory and opens it. In a confined cache it takes the place
// of a link.
func (d *directory) openDir(t place, name string) (*os.File, error) {
	if link := linkIn(t, name); link != "" && d.local.confined {
		if err := t.Remove(link); err != nil {
			return nil, err
		}
	}
	if err := t.MkdirAll(name, 0o777); err != nil {
		return nil, err
	}
	return t.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// descriptorPath names an open file, whatever has its name by now.
func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// lockless says that the file system knows no locks.
func lockless(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS)
}

// touch marks a blob as used, so that a sweep that is under way leaves it.
func (d *directory) touch(b Blob) {
	t, err := d.local.enter()
	if err != nil {
		return
	}
	defer t.Close()
	now := time.Now()
	_ = t.Chtimes(v3Path(b.Digest), now, now) // another user's file is not swept either
}

func (d *directory) remove(_ context.Context, r ref) error {
	if err := d.unlink(r.key); err != nil {
		return err
	}
	_ = d.unlink(path.Dir(r.key)) // if it is empty
	return nil
}

// unlink removes a file, a link or an empty directory, which may be gone.
func (d *directory) unlink(name string) error {
	t, err := d.local.enter()
	if err == nil {
		defer t.Close()
		err = t.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *directory) sweep(ctx context.Context, gone []ref, before time.Time, dryRun bool) (int, int64, error) {
	used, err := d.used(ctx, gone...)
	if err != nil {
		return 0, 0, err
	}
	blobs, bytes := 0, int64(0)
	err = d.unused(used, func(name string, info fs.FileInfo) error {
		if info.ModTime().After(before) {
			return ctx.Err()
		}
		blobs, bytes = blobs+1, bytes+info.Size()
		if dryRun {
			return nil
		}
		return d.unlink(name)
	})
	if err != nil || dryRun {
		return blobs, bytes, err
	}
	return blobs, bytes, d.clean()
}

// used returns the paths of all blobs that some manifest names: of a package
// that is not gone, an index, a key.
func (d *directory) used(ctx context.Context, gone ...ref) (map[string]bool, error) {
	names, err := d.files.walk(ctx, v3Manifests, ".manifest.json")
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	used := map[string]bool{}
	for _, name := range names {
		if slices.ContainsFunc(gone, func(r ref) bool { return r.key == name }) {
			continue
		}
		raw, err := d.read(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		blobs, _, err := decodeV3(raw)
		if err != nil {
			return nil, damaged(name, "%v; nothing is removed, since what it names is not known", err)
		}
		for _, b := range blobs {
			used[v3Path(b.Digest)] = true
		}
	}
	return used, nil
}

// removeCutOff removes manifests of packages, and the file that says what layout
// it is, that break off. Who copies them into place, as Spack does, leaves such
// when it is killed.
func (d *directory) removeCutOff(ctx context.Context) error {
	names, err := d.files.walk(ctx, v3Specs, v3Suffix)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, name := range append(names, v3Layout) {
		raw, err := d.read(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !cutOff(raw) {
			continue
		}
		if err := d.unlink(name); err != nil {
			return err
		}
		if name != v3Layout {
			_ = d.unlink(path.Dir(name)) // if it is empty
		}
	}
	return nil
}

// cutOff says that a file of JSON, which may be signed, breaks off.
func cutOff(raw []byte) bool {
	if bytes.HasPrefix(raw, []byte("-----BEGIN PGP")) {
		return !bytes.Contains(raw, []byte("-----END PGP SIGNATURE-----"))
	}
	return !json.Valid(raw)
}

// clean removes what writers that were killed left behind and, of a confined
// cache, what no writer makes: links, pipes, devices.
func (d *directory) clean() error {
	for _, dir := range []string{"blobs", "v3"} {
		err := d.eachFile(dir, func(name string, info fs.FileInfo) error {
			foreign := d.local.confined && !info.Mode().IsRegular()
			if foreign || strings.HasPrefix(path.Base(name), unfinished) && d.abandoned(name, info) {
				return d.unlink(name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *directory) abandoned(name string, info fs.FileInfo) bool {
	t, err := d.local.enter()
	if err != nil {
		return false
	}
	defer t.Close()
	f, err := rootfs.OpenRegular(t, name)
	if err != nil {
		return false
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && lockless(err) {
		return time.Since(info.ModTime()) > 24*time.Hour
	}
	return err == nil
}

// unused calls do for every blob that is not used.
func (d *directory) unused(used map[string]bool, do func(name string, info fs.FileInfo) error) error {
	return d.eachFile("blobs", func(name string, info fs.FileInfo) error {
		if used[name] || strings.HasPrefix(path.Base(name), unfinished) {
			return nil
		}
		return do(name, info)
	})
}

func (d *directory) eachFile(dir string, do func(name string, info fs.FileInfo) error) error {
	t, err := d.local.enter()
	if err != nil {
		return passedOver(err)
	}
	defer t.Close()
	if info, err := t.Lstat(dir); err == nil && !info.IsDir() && d.local.confined {
		return do(dir, info)
	}
	return fs.WalkDir(t.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return passedOver(err)
		}
		if entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return passedOver(err)
		}
		return do(name, info)
	})
}

// read reads a small file.
func (d *directory) read(ctx context.Context, name string) ([]byte, error) {
	body, _, err := d.local.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return limited(body, maxManifest)
}
