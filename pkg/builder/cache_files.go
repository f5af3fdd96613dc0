package builder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// LogsFor is how long the logs of steps are kept.
const LogsFor = 30 * 24 * time.Hour

// fileEntries lists what is kept in files beside the store.
func (b *Builder) fileEntries(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	entries, err := b.packageEntries(ctx, sweep)
	if err != nil {
		return nil, err
	}
	spack := filepath.Join(b.cacheDir, "spack")
	for _, place := range []struct {
		kind CacheKind
		dir  string
		// deep places have their entries anywhere below, others right there.
		deep bool
		// marked places are used by us alone, who mark what they use.
		marked bool
	}{
		{CacheSource, filepath.Join(spack, "sources"), true, false},
		{CacheLock, filepath.Join(spack, "locks"), false, true},
		{CacheTool, filepath.Join(spack, "tools"), false, true},
		{CacheMount, filepath.Join(b.cacheDir, "mounts"), false, true},
		{CacheDownload, filepath.Join(b.cacheDir, "downloads"), false, true},
		{CacheBlobs, b.cacheDir, false, false},
	} {
		list := topEntries
		if place.deep {
			list = allFiles
		}
		found, err := list(place.dir, place.kind)
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			// Others may have begun to use what they do not mark.
			if sweep.Others > 0 && (!place.marked || !e.LastUse.Before(sweep.Since)) {
				e.kept(aRunningBuild)
			}
			entries = append(entries, e)
		}
	}
	logs, err := b.logEntries()
	if err != nil {
		return nil, err
	}
	return append(entries, logs...), ctx.Err()
}

// logName is what a build calls the directory of its logs.
var logName = regexp.MustCompile(`^\d{8}-\d{6}-[0-9a-f]{6}$`)

// logEntries lists the logs of builds in the store. Those that a user wanted
// elsewhere are the user's.
func (b *Builder) logEntries() ([]*CacheEntry, error) {
	all, err := topEntries(filepath.Join(b.store.GraphRoot(), "pdibuild/log"), CacheLog)
	return slices.DeleteFunc(all, func(e *CacheEntry) bool { return !logName.MatchString(e.ID) }), err
}

// topEntries lists the files and directories in dir.
func topEntries(dir string, kind CacheKind) ([]*CacheEntry, error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []*CacheEntry
	for _, f := range found {
		e := &CacheEntry{Kind: kind, ID: f.Name(), path: filepath.Join(dir, f.Name())}
		if err := e.measure(); errors.Is(err, fs.ErrNotExist) {
			continue // another process has just removed it
		} else if err != nil {
			return nil, err
		}
		switch {
		case kind == CacheBlobs && !strings.HasPrefix(e.ID, blobMemoryPrefix):
			if !isRest(e.ID) {
				continue
			}
			e.Kind, e.Useless = CacheRest, "a killed process has left it"
		case isRest(e.ID):
			e.Kind, e.Useless = CacheRest, "a killed process has left it"
		case kind == CacheMount && strings.HasSuffix(e.ID, mountName):
			continue
		case kind == CacheMount:
			e.describeMount()
		case kind == CacheLog && time.Since(e.LastUse) > LogsFor:
			e.Useless = "its build is more than 30 days ago"
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// isRest recognises the names of files that are being written, also those of
// the libraries.
func isRest(name string) bool {
	for _, prefix := range []string{".new-", ".part-", ".tmp-", "container_images_", "fetched-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// allFiles lists the regular files below dir, which commands write to. When Spack
// reads one, the file system says so, if it notes that at all.
func allFiles(dir string, kind CacheKind) ([]*CacheEntry, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var entries []*CacheEntry
	err = eachBelow(root, "", func(_ *os.Root, name string, info fs.FileInfo) {
		if !info.Mode().IsRegular() {
			return
		}
		used := info.ModTime()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if read := time.Unix(st.Atim.Unix()); read.After(used) {
				used = read
			}
		}
		entries = append(entries, &CacheEntry{Kind: kind, ID: name, Size: info.Size(), LastUse: used, path: name, shared: dir})
	})
	return entries, err
}

// eachBelow calls do for what is below a directory that commands write to, by
// name in it and with the directory that has it, directories first. It follows no
// link out of it. What is gone meanwhile, or a command alone may read, is left
// out.
func eachBelow(in *os.Root, name string, do func(in *os.Root, name string, info fs.FileInfo)) error {
	dir, err := in.Open(".")
	if err != nil {
		return passable(err)
	}
	entries, err := dir.ReadDir(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return passable(err)
	}
	for _, e := range entries {
		info, err := in.Lstat(e.Name())
		if err == nil {
			do(in, path.Join(name, e.Name()), info)
		}
		if err == nil && info.IsDir() {
			var below *os.Root
			if below, err = in.OpenRoot(e.Name()); err == nil {
				err = errors.Join(eachBelow(below, path.Join(name, e.Name()), do), below.Close())
			}
		}
		if err = passable(err); err != nil {
			return err
		}
	}
	return nil
}

// passable is nil for what a command may have done to a file meanwhile.
func passable(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// measure finds the size of the file or of all files below the directory, and
// takes its time.
func (e *CacheEntry) measure() error {
	info, err := os.Lstat(e.path)
	if err != nil {
		return err
	}
	e.LastUse, e.Size = info.ModTime(), info.Size()
	if !info.IsDir() {
		return nil
	}
	e.Size = 0
	root, err := os.OpenRoot(e.path)
	if err != nil {
		return passable(err)
	}
	defer root.Close()
	return eachBelow(root, "", func(_ *os.Root, _ string, info fs.FileInfo) {
		if !info.IsDir() {
			e.Size += info.Size()
		}
	})
}

// open opens the entry's file.
func (e *CacheEntry) open() (*os.File, error) {
	if e.shared == "" {
		return os.Open(e.path)
	}
	root, err := os.OpenRoot(e.shared)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return rootfs.OpenRegular(root, e.path)
}

// remove removes the entry's file or directory.
func (e *CacheEntry) remove() error {
	if e.shared == "" {
		return removeTree(e.path)
	}
	root, err := os.OpenRoot(e.shared)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(e.path)
}

// mountName ends the name of the file beside a cache mount that has the mount's
// id. Its time is when the mount was last used.
const mountName = ".id"

func (e *CacheEntry) describeMount() {
	file := e.path + mountName
	if info, err := os.Stat(file); err == nil {
		e.LastUse = info.ModTime()
	}
	if id, err := os.ReadFile(file); err == nil {
		e.Text = string(id)
	}
}

// markUsed gives a file or directory the present time.
func markUsed(path string) { _ = cache.Touch(path) }
