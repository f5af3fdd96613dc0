package outfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/outfile"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	place, err := outfile.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Write(t.Context(), []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func refuse(t *testing.T, name, text string) {
	t.Helper()
	_, err := outfile.Find(name)
	var bad *outfile.Error
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), text) || bad.Hint == "" {
		t.Errorf("%s: %v, want an error with %q and a hint", name, err, text)
	}
}

// A link stays a link: what it leads to is written, also where nothing is yet.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	join := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(join("elsewhere"), 0o755), os.Mkdir(join("elsewhere/sub"), 0o755), os.Symlink("elsewhere/sub", join("to-sub"))); err != nil {
		t.Fatal(err)
	}
	for link, leads := range map[string]string{
		"relative": "elsewhere/a", "absolute": join("elsewhere/b"), "chain": "relative",
		"above": "to-sub/../c", // elsewhere/c, and not c
	} {
		if err := os.Symlink(leads, join(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ link, file string }{{"relative", "elsewhere/a"}, {"absolute", "elsewhere/b"}, {"chain", "elsewhere/a"}, {"above", "elsewhere/c"}} {
		for _, text := range []string{"new", "again"} {
			write(t, join(test.link), text)
			if got := content(t, join(test.file)); got != text {
				t.Errorf("through %s, %s has %q, want %q", test.link, test.file, got, text)
			}
		}
		if info, err := os.Lstat(join(test.link)); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is no link any more (%v)", test.link, err)
		}
	}
	if err := errors.Join(os.Symlink("loop", join("loop")), os.Symlink("none/file", join("lost"))); err != nil {
		t.Fatal(err)
	}
	refuse(t, join("loop"), "too many levels")
	refuse(t, join("lost"), "the directory for file")
}

// A file that is replaced keeps its permissions, and its content until then.
func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	place, err := outfile.Find(file)
	if err != nil || !place.Replaces() {
		t.Fatalf("Replaces is %v (%v)", place.Replaces(), err)
	}
	w, err := place.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "half"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got := content(t, file); got != "old" {
		t.Errorf("after an error it has %q", got)
	}
	write(t, file, "new")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || content(t, file) != "new" {
		t.Errorf("it has %q and mode %v (%v)", content(t, file), info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v (%v)", entries, err)
	}
}

// Whoever reads a pipe gets what is written, and the pipe stays one.
func TestPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		data, _ := os.ReadFile(pipe)
		got <- string(data)
	}()
	write(t, pipe, strings.Repeat("x", 1<<20))
	if n := len(<-got); n != 1<<20 {
		t.Errorf("%d bytes were read", n)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("it is no pipe any more (%v)", err)
	}
}

// Without a reader, or with one that does not read, writing ends with its
// context.
func TestPipeWithoutReader(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, readers := range []int{0, 1} {
		if readers == 1 {
			r, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
		}
		place, err := outfile.Find(pipe)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := place.Write(ctx, make([]byte, 1<<20)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with %d readers: %v", readers, err)
		}
	}
}

// A descriptor is written to where it stands, not from its start, and stays open.
func TestDescriptor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("before "); err != nil {
		t.Fatal(err)
	}
	// As a shell would hand it over: not closed on exec.
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	name := fmt.Sprintf("/dev/fd/%d", fd)
	write(t, name, "in between ")
	write(t, name, "and after")
	if got := content(t, file); got != "before in between and after" {
		t.Errorf("the file has %q", got)
	}
	refuse(t, fmt.Sprintf("/dev/fd/%d", f.Fd()), "is not open") // this program's own
	refuse(t, "/dev/fd/987", "is not open")
	r, err := unix.Open(file, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(r)
	refuse(t, fmt.Sprintf("/proc/self/fd/%d", r), "not open for writing")
}

// What is neither a file nor a pipe is left alone.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refuse(t, socket, "is a socket")
	refuse(t, dir, "is a directory")
	refuse(t, dir+"/new/", "is a directory")
	refuse(t, "/dev/full", "is a device")
	refuse(t, filepath.Join(dir, "no", "file"), "the directory for file")
	refuse(t, "/proc/self/new", "nothing can be written")
	write(t, "/dev/null", "lost")
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("/dev/null is %v (%v)", info.Mode(), err)
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	find := func(name string) outfile.Place {
		place, err := outfile.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		return place
	}
	for _, exists := range []bool{false, true} {
		if exists {
			write(t, dir+"/file", "x")
		}
		if !find(dir + "/file").Same(find(dir + "/link")) {
			t.Errorf("a link and its file are two (exists: %v)", exists)
		}
		if find(dir + "/file").Same(find(dir + "/other")) {
			t.Errorf("two files are one (exists: %v)", exists)
		}
	}
	if find("/dev/null").Same(find("/dev/null")) {
		t.Error("/dev/null takes only one")
	}
}
