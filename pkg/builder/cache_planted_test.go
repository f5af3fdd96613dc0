package builder

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/cache"
)

func mustAll(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// treeState is what a change to a tree would change.
func treeState(t *testing.T, dir string) string {
	t.Helper()
	state := ""
	mustAll(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		state += fmt.Sprintln(name, info.Mode(), info.Size(), info.ModTime())
		return nil
	}))
	return state
}

// A package's build can put links to the host into the local binary cache:
// nothing is used, marked or removed behind them.
func TestPlantedManifestsAreLeftAlone(t *testing.T) {
	for _, name := range []string{"v3", "v3/manifests", "v3/manifests/spec", "blobs", "blobs/sha256"} {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			mustAll(t, os.CopyFS(host, os.DirFS(spackCacheData)))
			b := withPackages(t)
			hashes := keysOf(manifestsOf(t, b))
			local := filepath.Join(b.spackCache("buildcache"), name)
			mustAll(t, os.RemoveAll(local), os.Symlink(filepath.Join(host, name), local))
			before := treeState(t, host)
			if _, err := b.packageEntries(t.Context(), &cache.Sweep{}); err != nil {
				t.Error(err)
			}
			if _, err := b.soundPackages(t.Context(), hashes); err != nil {
				t.Error(err)
			}
			going := map[string]bool{}
			for _, h := range hashes {
				going[h] = true
			}
			if err := b.removePackages(t.Context(), nil, true); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(local); err == nil {
				t.Error("the link is still there after a prune that removes no package")
			}
			mustAll(t, os.MkdirAll(filepath.Dir(local), 0o755), os.Symlink(filepath.Join(host, name), local))
			if err := b.removePackages(t.Context(), going, true); err != nil {
				t.Log(err) // there may be no cache left
			}
			if after := treeState(t, host); after != before {
				t.Errorf("the host has\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// The same for source archives, also where a directory becomes a link after it
// was looked at.
func TestPlantedSourcesAreLeftAlone(t *testing.T) {
	b, host := &Builder{cacheDir: t.TempDir()}, t.TempDir()
	name := fmt.Sprintf("%x.tar.gz", sha256.Sum256([]byte("what it should be")))
	dir := filepath.Join(b.spackCache("sources"), "_source-cache/archive/ab")
	mustAll(t,
		os.WriteFile(filepath.Join(host, name), []byte("the host's"), 0o600),
		os.MkdirAll(dir, 0o755),
		os.Symlink(host, filepath.Join(filepath.Dir(dir), "cd")),
		os.Symlink(filepath.Join(host, name), filepath.Join(dir, name)),
	)
	before := treeState(t, host)
	b.soundSources()
	if entries, err := allFiles(b.spackCache("sources"), CacheSource); err != nil || len(entries) > 0 {
		t.Errorf("links are listed: %v, %v", entries, err)
	}
	mustAll(t, os.Remove(filepath.Join(dir, name)), os.WriteFile(filepath.Join(dir, name), []byte("the cache's"), 0o600))
	entries, err := allFiles(b.spackCache("sources"), CacheSource)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	mustAll(t, os.RemoveAll(dir), os.Symlink(host, dir))
	if f, err := entries[0].open(); err == nil {
		t.Errorf("%s is opened behind a link", f.Name())
	}
	if err := entries[0].remove(); err == nil {
		t.Error("it was removed without an error")
	}
	mustAll(t, os.Remove(dir), os.Mkdir(dir, 0o755), unix.Mkfifo(filepath.Join(dir, name), 0o600))
	b.soundSources()
	if f, err := entries[0].open(); err == nil {
		t.Errorf("%s, a pipe, is opened", f.Name())
	}
	if after := treeState(t, host); after != before {
		t.Errorf("the host has\n%s\nand had\n%s", after, before)
	}
}

// A cache mount is measured and removed without what its links lead to, also
// where its directories have to be opened to be removed.
func TestPlantedLinksOfCacheMounts(t *testing.T) {
	host, mounts := t.TempDir(), t.TempDir()
	long := time.Now().Add(-time.Hour)
	mount := filepath.Join(mounts, "m")
	mustAll(t,
		os.WriteFile(filepath.Join(host, "large"), make([]byte, 5000), 0o600),
		os.Mkdir(filepath.Join(host, "closed"), 0o500),
		os.Chtimes(host, long, long),
		os.MkdirAll(filepath.Join(mount, "closed/below"), 0o700),
		os.WriteFile(filepath.Join(mount, "closed/below/file"), make([]byte, 100), 0o600),
		os.Symlink(host, filepath.Join(mount, "closed/below/host")),
		os.Symlink(filepath.Join(host, "closed"), filepath.Join(mount, "host")),
	)
	before := treeState(t, host)
	entries, err := topEntries(mounts, CacheMount)
	if err != nil || len(entries) != 1 || entries[0].Size < 100 || entries[0].Size > 5000 {
		t.Fatalf("%+v, %v", entries, err)
	}
	mustAll(t, os.Chmod(filepath.Join(mount, "closed/below"), 0), os.Chmod(filepath.Join(mount, "closed"), 0))
	if err := entries[0].remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(mount); err == nil {
		t.Error("the mount is still there")
	}
	if after := treeState(t, host); after != before {
		t.Errorf("the host has\n%s\nand had\n%s", after, before)
	}
}
