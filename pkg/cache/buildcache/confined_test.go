package buildcache

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An onlooker sees whatever is opened, changed or removed below a directory.
type onlooker struct {
	t  *testing.T
	fd int
}

func watch(t *testing.T, root string) *onlooker {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		_, err = unix.InotifyAddWatch(fd, name, unix.IN_ALL_EVENTS)
		return err
	}))
	w := &onlooker{t, fd}
	w.events() // of the walk
	return w
}

// events are the names that were touched, and how.
func (w *onlooker) events() (seen []string) {
	w.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if err != nil {
			return seen
		}
		for at := 0; at < n; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := buf[at+unix.SizeofInotifyEvent:][:e.Len]
			seen = append(seen, strings.TrimRight(string(name), "\x00")+" "+maskText(e.Mask))
			at += unix.SizeofInotifyEvent + int(e.Len)
		}
	}
}

func maskText(mask uint32) string {
	var words []string
	for bit, word := range map[uint32]string{
		unix.IN_OPEN: "opened", unix.IN_ACCESS: "read", unix.IN_MODIFY: "written", unix.IN_ATTRIB: "changed",
		unix.IN_DELETE: "removed", unix.IN_CREATE: "made", unix.IN_MOVED_TO: "replaced",
	} {
		if mask&bit != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, "+")
}

// confinedCache opens a cache that builds can write to.
func confinedCache(t *testing.T, root string) *Cache {
	t.Helper()
	opt := options()
	opt.Confined = true
	c, err := Open(t.Context(), root, opt)
	must(t, err)
	return c
}

func noLinks(t *testing.T, root string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			t.Errorf("%s is still a link", name)
		}
		return err
	}))
}

// links are what a build can plant in the local cache.
func links(t *testing.T, root string) []string {
	zlib := world()["zlib"]
	rel := func(name string) string {
		rel, err := filepath.Rel(root, name)
		must(t, err)
		return rel
	}
	blob := rel(blobPath(t, root, zlib))
	manifest := rel(manifestPath(root, zlib))
	return []string{
		"v3", "v3/manifests", v3Specs, filepath.Dir(manifest), manifest, v3Index, v3Layout,
		"blobs", "blobs/sha256", filepath.Dir(blob), blob,
	}
}

// Whatever a build plants in the local cache, links to another cache on this
// host most of all, nothing that is done with the local one reads, writes or
// removes anything behind them.
func TestConfinedCacheStaysInItsDirectory(t *testing.T) {
	full := newV3(t, stored()...)
	_, err := open(t, full).Index(t.Context())
	must(t, err)
	long := time.Now().Add(-time.Hour)
	operations := map[string]func(ctx context.Context, c *Cache){
		"list":   func(ctx context.Context, c *Cache) { _, _ = c.List(ctx, ListOptions{}) },
		"verify": func(ctx context.Context, c *Cache) { _, _ = c.Verify(ctx, VerifyOptions{Deep: true}) },
		"copy from": func(ctx context.Context, c *Cache) {
			_, _ = Copy(ctx, c, open(t, t.TempDir()), CopyOptions{})
		},
		"copy to": func(ctx context.Context, c *Cache) {
			_, err := Copy(ctx, open(t, full), c, CopyOptions{Check: true})
			must(t, err)
			sound(t, c, stored()...)
			checkDeep(t, c)
		},
		"pull":  func(ctx context.Context, c *Cache) { _, _ = c.Pull(ctx, t.TempDir(), PullOptions{}) },
		"index": func(ctx context.Context, c *Cache) { _, _ = c.Index(ctx) },
		"prune": func(ctx context.Context, c *Cache) { _, _ = c.Prune(ctx, PruneOptions{Grace: -1}) },
		"prune all": func(ctx context.Context, c *Cache) {
			_, _ = c.Prune(ctx, PruneOptions{Before: time.Now().Add(time.Hour), Grace: -1})
		},
		"clear": func(ctx context.Context, c *Cache) {
			must(t, c.Clear(ctx))
			noLinks(t, c.address)
		},
		"clean": func(_ context.Context, c *Cache) {
			must(t, c.Clean())
			noLinks(t, c.address)
		},
	}
	for _, name := range links(t, full) {
		for operation, do := range operations {
			t.Run(strings.ReplaceAll(name, "/", ":")+", "+operation, func(t *testing.T) {
				host, local := t.TempDir(), t.TempDir()
				must(t, os.CopyFS(host, os.DirFS(full)))
				must(t, os.CopyFS(local, os.DirFS(full)))
				must(t, os.Chtimes(filepath.Join(host, v3Index), long, long))
				must(t, os.RemoveAll(filepath.Join(local, name)))
				must(t, os.Symlink(filepath.Join(host, name), filepath.Join(local, name)))
				w := watch(t, host)
				do(t.Context(), confinedCache(t, local))
				if seen := w.events(); len(seen) > 0 {
					t.Errorf("behind the link, there were %q", seen)
				}
			})
		}
	}
}

// A pipe in the place of a file holds nothing up: the package counts as damaged.
func TestConfinedCacheOpensNoPipe(t *testing.T) {
	root := newV3(t, stored()...)
	for _, name := range []string{manifestPath(root, world()["zlib"]), blobPath(t, root, world()["hdf5"]), filepath.Join(root, v3Index)} {
		_ = os.Remove(name)
		must(t, unix.Mkfifo(name, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := confinedCache(t, root)
	report, err := c.Verify(ctx, VerifyOptions{Deep: true})
	if err != nil || report.Sound() {
		t.Errorf("Verify finds %v, %v", report, err)
	}
	must(t, c.Clear(ctx))
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	sound(t, c, stored()...)
}

// A user's own cache may have its parts elsewhere.
func TestOwnCacheFollowsLinks(t *testing.T) {
	full, root := newV3(t, stored()...), t.TempDir()
	must(t, os.Symlink(filepath.Join(full, "v3"), filepath.Join(root, "v3")))
	must(t, os.Symlink(filepath.Join(full, "blobs"), filepath.Join(root, "blobs")))
	sound(t, open(t, root), stored()...)
	checkDeep(t, open(t, root))
	_, err := open(t, root).Index(t.Context())
	must(t, err)
	_, err = os.Stat(filepath.Join(full, v3Index))
	must(t, err)
}
