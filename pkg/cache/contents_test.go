package cache

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// contentsFile makes a file that contents has learnt, and returns its name.
func contentsFile(t *testing.T, c *Contents, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	learn(t, c, name)
	return name
}

// learn reads a file and puts its digest into c.
func learn(t *testing.T, c *Contents, name string) {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(f, info, sha256.Sum256(data))
}

func remembers(t *testing.T, c *Contents, name string) bool {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	sum, ok := c.Get(info)
	if !ok {
		return false
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if sum != sha256.Sum256(data) {
		t.Fatalf("%s: the digest of another content is remembered", name)
	}
	return true
}

// openSettled takes files for settled that are just written. It skips where
// temporary files are on a file system that is not trusted.
func openSettled(t *testing.T, dir string) *Contents {
	t.Helper()
	c := OpenContents(dir, "context")
	c.settled = 0
	if probe := contentsFile(t, c, "probe"); !remembers(t, c, probe) {
		t.Skip("the change times of this file system are not trusted")
	}
	return c
}

// Whatever is done to a file, and whatever times it is given afterwards, it is
// read again.
func TestContentsForgetsWhatIsTouched(t *testing.T) {
	c := openSettled(t, t.TempDir())
	for what, touch := range map[string]func(name string) error{
		"another content of the same length": func(name string) error { return os.WriteFile(name, []byte("other"), 0o644) },
		"a write in place": func(name string) error {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("x"), 2)
			return err
		},
		"another file in its place": func(name string) error {
			if err := os.WriteFile(name+".new", []byte("other"), 0o644); err != nil {
				return err
			}
			return os.Rename(name+".new", name)
		},
		"truncated and filled": func(name string) error {
			if err := os.Truncate(name, 0); err != nil {
				return err
			}
			return os.Truncate(name, 5)
		},
	} {
		name := contentsFile(t, c, "first")
		before, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if !remembers(t, c, name) {
			t.Fatalf("%s: an untouched file is not remembered", what)
		}
		time.Sleep(20 * time.Millisecond) // the clock of the file system goes on
		if err := touch(name); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		if remembers(t, c, name) {
			t.Errorf("%s: the file is still taken for the old one", what)
		}
	}
}

func TestContentsOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	c := openSettled(t, dir)
	kept, gone := contentsFile(t, c, "kept"), contentsFile(t, c, "gone")
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	again := OpenContents(dir, "context")
	if !remembers(t, again, kept) {
		t.Fatal("a file is forgotten")
	}
	// Of what nobody asks for any more, nothing is kept.
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	last := OpenContents(dir, "context")
	if !remembers(t, last, kept) || remembers(t, last, gone) {
		t.Fatal("what is kept is not what was asked for")
	}
	if other := OpenContents(dir, "another context"); remembers(t, other, kept) {
		t.Fatal("two contexts share a memory")
	}
}

// A damaged memory remembers nothing, and never wrongly.
func TestContentsDamaged(t *testing.T) {
	dir := t.TempDir()
	c := openSettled(t, dir)
	name := contentsFile(t, c, "content")
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := append([]byte(nil), whole...)
		damaged[i] ^= 1
		for _, data := range [][]byte{damaged, whole[:i]} {
			if err := os.WriteFile(c.file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if remembers(t, OpenContents(dir, "context"), name) {
				t.Fatalf("a memory damaged at byte %d is believed", i)
			}
		}
	}
}

func TestContentsDoesNotTrustWhatMayChange(t *testing.T) {
	c := OpenContents(t.TempDir(), "context")
	if young := contentsFile(t, c, "young"); remembers(t, c, young) {
		t.Error("a file that was just written is remembered: the next write may bear the same time")
	}
	c = openSettled(t, t.TempDir())
	name := contentsFile(t, c, "future")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(name, later, later); err != nil {
		t.Fatal(err)
	}
	learn(t, c, name)
	if remembers(t, c, name) {
		t.Error("a file from the future is remembered")
	}
	// /proc stands for what has no change times.
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		t.Skip("there is no /proc")
	}
	learn(t, c, "/proc/version")
	if info, err := os.Lstat("/proc/version"); err != nil {
		t.Fatal(err)
	} else if _, ok := c.Get(info); ok {
		t.Error("a file of a file system without change times is remembered")
	}
}

func TestContentsOfOldDirectoriesGo(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "old"), filepath.Join(dir, "young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * contentsKept)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	c := openSettled(t, dir)
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("an old memory is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
}
