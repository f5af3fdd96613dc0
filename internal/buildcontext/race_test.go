package buildcontext

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
)

const outside = "what is outside of the context"

// While somebody changes a directory of the context into a link that leads
// out of it and back, nothing outside is ever read, hashed or mounted.
func TestContextNeverLeadsOutside(t *testing.T) {
	dir := t.TempDir()
	context, host := filepath.Join(dir, "context"), filepath.Join(dir, "host")
	for name, content := range map[string]string{"context/sub/file": "inside", "host/file": outside, "host/more": outside} {
		writeFile(t, filepath.Join(dir, name), content)
	}
	// "sub" is now a directory, now a link.
	if err := os.Symlink(host, filepath.Join(context, "link")); err != nil {
		t.Fatal(err)
	}
	stop := whileSwapping(t, filepath.Join(context, "sub"), filepath.Join(context, "link"))
	forbidden := sha256Of(t, filepath.Join(host, "file"))
	read, mounted := 0, 0
	known := cache.OpenContents(t.TempDir(), context)
	for range 3000 {
		c := newReader(context, known)
		source, err := c.read([]string{"sub/file"})
		if err == nil {
			read++
			for _, f := range source.Files {
				if f.digest() == forbidden {
					t.Fatal("a file outside of the context was hashed")
				}
				content, err := readAll(&f, context)
				if strings.Contains(content, outside) {
					t.Fatalf("a file outside of the context was read (%v)", err)
				}
			}
		}
		m := worker.Mount{Type: "bind", Within: context, Source: "sub/file"}
		if f, err := m.Open(); err == nil {
			mounted++
			if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil || !strings.HasPrefix(name, context) {
				t.Fatalf("%s would be mounted (%v)", name, err)
			}
			f.Close()
		}
	}
	swaps := stop()
	t.Logf("%d of 3000 reads and %d mounts met the directory, it was swapped %d times", read, mounted, swaps)
	if read == 0 || swaps < 10 {
		t.Error("there was no race")
	}
}

func newReader(dir string, known *cache.Contents) *reader {
	return &reader{Options: Options{Dir: dir, Known: known}}
}

func readAll(f *File, context string) (string, error) {
	r, err := f.Open(context)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

// whileSwapping exchanges two names as fast as it can, until stop is called.
func whileSwapping(t *testing.T, a, b string) (stop func() int) {
	t.Helper()
	done, n := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("exchange: %v", err)
				return
			}
			n++
		}
	})
	return func() int { close(done); wg.Wait(); return n }
}

// A file that changes between planning and copying is noticed, however it
// changes; what is copied is what was hashed.
func TestContextFileChangesAfterPlanning(t *testing.T) {
	for name, change := range map[string]func(string) error{
		"other content":  func(f string) error { return os.WriteFile(f, []byte("xyz"), 0o644) },
		"truncated":      func(f string) error { return os.Truncate(f, 1) },
		"emptied":        func(f string) error { return os.Truncate(f, 0) },
		"grown":          func(f string) error { return os.WriteFile(f, []byte("abcdef"), 0o644) },
		"removed":        os.Remove,
		"now a pipe":     func(f string) error { return errors.Join(os.Remove(f), unix.Mkfifo(f, 0o644)) },
		"now a link out": func(f string) error { return errors.Join(os.Remove(f), os.Symlink("/etc/passwd", f)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			writeFile(t, file, "abc")
			known := cache.OpenContents(t.TempDir(), dir)
			c := newReader(dir, known)
			source, err := c.read([]string{"file"})
			if err != nil {
				t.Fatal(err)
			}
			if err := change(file); err != nil {
				t.Fatal(err)
			}
			if content, err := readAll(&source.Files[0], dir); err == nil {
				t.Errorf("it was copied as %q, and nobody noticed", content)
			}
		})
	}
}

// The size in the layer is that of the content that made the key: a file that
// is being written while it is planned is either noticed or right.
func TestContextFileChangesWhilePlanning(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	writeFile(t, file, "")
	writeFile(t, other, strings.Repeat("x", 100000))
	stop := whileSwapping(t, file, other)
	defer stop()
	known := cache.OpenContents(t.TempDir(), dir)
	for range 2000 {
		c := newReader(dir, known)
		source, err := c.read([]string{"file"})
		if err != nil {
			continue
		}
		f := source.Files[0]
		empty := f.digest() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		if empty != (f.size == 0) {
			t.Fatalf("%d bytes have the digest %s", f.size, f.digest())
		}
	}
}

// What can't be copied is said, not left out.
func TestContextSocketIsNoFile(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newReader(dir, cache.OpenContents(t.TempDir(), dir))
	if _, err := c.read([]string{"socket"}); err == nil || !strings.Contains(err.Error(), "neither a file nor a directory") {
		t.Errorf("copy of a socket: %v", err)
	}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func sha256Of(t *testing.T, name string) string {
	t.Helper()
	sum, err := fileSHA256(name)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
