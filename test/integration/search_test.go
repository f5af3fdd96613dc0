//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// searchEnv makes the test program a search of the named directories.
const searchEnv = "PDIBUILD_TEST_SEARCH"

// A search looks for a value on this host. Only files that have changed since
// the value came to be can hold it.
type search struct {
	Value string
	Since time.Time
	Dirs  []string
	// Not are directories of other tests below Dirs.
	Not []string
}

// otherTests are the stores of other tests, and the images of all.
func otherTests(t *testing.T, store string) []string {
	t.Helper()
	entries, err := os.ReadDir(storeRoot)
	if err != nil {
		t.Fatal(err)
	}
	not := []string{imagesDir}
	for _, e := range entries {
		if dir := filepath.Join(storeRoot, e.Name()); dir != store {
			not = append(not, dir)
		}
	}
	return not
}

// places are where a build may write: the store with its run root, cache and
// logs, directories for temporary files, and the home directory. None is in
// another one, so that each file is looked at once.
func places(store string) []string {
	dirs := []string{store, os.TempDir(), "/tmp", "/var/tmp", "/run", "/dev/shm"}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, home)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	return slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		return slices.ContainsFunc(dirs, func(other string) bool { return strings.HasPrefix(dir, strings.TrimSuffix(other, "/")+"/") })
	})
}

// find returns the files that hold the value, in content or name. It runs in
// a namespace where every file of the store can be read.
func (s search) find(t *testing.T) []string {
	t.Helper()
	request, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stdin = append(os.Environ(), searchEnv+"=1"), bytes.NewReader(request)
	out, err := inNamespace(cmd).Output()
	if err != nil {
		t.Fatalf("search for the value: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if seen := lines[len(lines)-1]; seen == "searched 0 files" || !strings.HasPrefix(seen, "searched ") {
		t.Fatalf("the search saw nothing: %q", out)
	}
	return lines[:len(lines)-1]
}

// wantAbsent fails the test where the value is in a file or an argv.
func (s search) wantAbsent(t *testing.T, when string) {
	t.Helper()
	for _, f := range s.find(t) {
		t.Errorf("%s, the value is in %s", when, f)
	}
	for _, p := range processes(t) {
		if strings.Contains(p.cmdline, s.Value) {
			t.Errorf("%s, the value is in the arguments of process %d: %q", when, p.pid, p.cmdline)
		}
	}
}

// searchMain is the program in the namespace.
func searchMain() {
	var s search
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		os.Exit(fatal(err))
	}
	n := 0
	for _, dir := range s.Dirs {
		// What cannot be read is not ours: it belongs to other users.
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // the search goes on
			}
			if d.IsDir() && (slices.Contains(s.Not, path) || ofTheKernel(path, d)) {
				return fs.SkipDir
			}
			if d.IsDir() {
				return skipForeign(path)
			}
			if s.changed(d) {
				n++
				s.report(path, d)
			}
			return nil
		})
	}
	fmt.Printf("searched %d files\n", n)
}

// skipForeign leaves out what Go keeps in a home directory.
func skipForeign(path string) error {
	if strings.HasSuffix(path, "/go/pkg/mod") || strings.HasSuffix(path, "/.cache/go-build") {
		return fs.SkipDir
	}
	return nil
}

// ofTheKernel says that a directory is no storage: someone has left a /proc
// or /sys mounted, whose files may be endless. Each file system is asked once.
func ofTheKernel(path string, d fs.DirEntry) bool {
	info, err := d.Info()
	if err != nil {
		return false
	}
	file, ok := info.Sys().(*syscall.Stat_t)
	if !ok || kernels[file.Dev] != nil {
		return ok && *kernels[file.Dev]
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false
	}
	found := isKernel(st)
	kernels[file.Dev] = &found
	return found
}

// kernels are the file systems that searchMain has asked, by number.
var kernels = map[uint64]*bool{}

func isKernel(st unix.Statfs_t) bool {
	return st.Type == unix.PROC_SUPER_MAGIC || st.Type == unix.SYSFS_MAGIC || st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC
}

func (s search) changed(d fs.DirEntry) bool {
	info, err := d.Info()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || !time.Unix(st.Ctim.Unix()).Before(s.Since.Add(-time.Second))
}

func (s search) report(path string, d fs.DirEntry) {
	link, _ := os.Readlink(path)
	if strings.Contains(path+"\n"+link, s.Value) || d.Type().IsRegular() && fileContains(path, s.Value) {
		fmt.Println(path)
	}
}

// fileContains searches a file of any size.
func fileContains(path, value string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return readerContains(f, value)
}

func readerContains(r io.Reader, value string) bool {
	in, window := bufio.NewReaderSize(r, 1<<20), []byte(nil)
	block := make([]byte, 1<<20)
	for {
		n, err := in.Read(block)
		window = append(window, block[:n]...)
		if bytes.Contains(window, []byte(value)) {
			return true
		}
		if err != nil {
			return false
		}
		window = append([]byte(nil), window[max(0, len(window)-len(value)):]...)
	}
}

// A process is one of /proc.
type process struct {
	pid     int
	cmdline string
}

// processes are all processes that this user sees.
func processes(t *testing.T) []process {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Fatalf("no processes in /proc: %v", err)
	}
	var all []process
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		p := process{cmdline: strings.ReplaceAll(string(data), "\x00", " ")}
		if _, err := fmt.Sscanf(f, "/proc/%d/", &p.pid); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// running counts the processes whose arguments have the word.
func running(t *testing.T, word string) int {
	t.Helper()
	n := 0
	for _, p := range processes(t) {
		if strings.Contains(p.cmdline, word) {
			n++
		}
	}
	return n
}
