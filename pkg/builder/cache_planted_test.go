package builder

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/hosttest"
)

// A package's build can put links to the host among the source archives, also in
// place of a directory that was looked at: nothing is used, marked or removed
// behind them.
func TestPlantedSourcesAreLeftAlone(t *testing.T) {
	b, host := &Builder{cacheDir: t.TempDir()}, t.TempDir()
	name := fmt.Sprintf("%x.tar.gz", sha256.Sum256([]byte("what it should be")))
	dir := filepath.Join(b.spackCache("sources"), "_source-cache/archive/ab")
	hosttest.Must(t,
		os.WriteFile(filepath.Join(host, name), []byte("the host's"), 0o600),
		os.MkdirAll(dir, 0o755),
		os.Symlink(host, filepath.Join(filepath.Dir(dir), "cd")),
		os.Symlink(filepath.Join(host, name), filepath.Join(dir, name)),
	)
	before := hosttest.State(t, host)
	b.soundSources()
	if entries, err := allFiles(b.spackCache("sources"), CacheSource); err != nil || len(entries) > 0 {
		t.Errorf("links are listed: %v, %v", entries, err)
	}
	hosttest.Must(t, os.Remove(filepath.Join(dir, name)), os.WriteFile(filepath.Join(dir, name), []byte("the cache's"), 0o600))
	entries, err := allFiles(b.spackCache("sources"), CacheSource)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	hosttest.Must(t, os.RemoveAll(dir), os.Symlink(host, dir))
	if f, err := entries[0].open(); err == nil {
		t.Errorf("%s is opened behind a link", f.Name())
	}
	if err := entries[0].remove(); err == nil {
		t.Error("it was removed without an error")
	}
	hosttest.Must(t, os.Remove(dir), os.Mkdir(dir, 0o755), unix.Mkfifo(filepath.Join(dir, name), 0o600))
	b.soundSources()
	if f, err := entries[0].open(); err == nil {
		t.Errorf("%s, a pipe, is opened", f.Name())
	}
	if after := hosttest.State(t, host); after != before {
		t.Errorf("the host has\n%s\nand had\n%s", after, before)
	}
}

// A cache mount is measured and removed without what its links lead to, also
// where its directories have to be opened to be removed.
func TestPlantedLinksOfCacheMounts(t *testing.T) {
	host, mounts := t.TempDir(), t.TempDir()
	long := time.Now().Add(-time.Hour)
	mount := filepath.Join(mounts, "m")
	hosttest.Must(t,
		os.WriteFile(filepath.Join(host, "large"), make([]byte, 5000), 0o600),
		os.Mkdir(filepath.Join(host, "closed"), 0o500),
		os.Chtimes(host, long, long),
		os.MkdirAll(filepath.Join(mount, "closed/below"), 0o700),
		os.WriteFile(filepath.Join(mount, "closed/below/file"), make([]byte, 100), 0o600),
		os.Symlink(host, filepath.Join(mount, "closed/below/host")),
		os.Symlink(filepath.Join(host, "closed"), filepath.Join(mount, "host")),
	)
	before := hosttest.State(t, host)
	entries, err := topEntries(mounts, CacheMount)
	if err != nil || len(entries) != 1 || entries[0].Size < 100 || entries[0].Size > 5000 {
		t.Fatalf("%+v, %v", entries, err)
	}
	hosttest.Must(t, os.Chmod(filepath.Join(mount, "closed/below"), 0), os.Chmod(filepath.Join(mount, "closed"), 0))
	if err := entries[0].remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(mount); err == nil {
		t.Error("the mount is still there")
	}
	if after := hosttest.State(t, host); after != before {
		t.Errorf("the host has\n%s\nand had\n%s", after, before)
	}
}
