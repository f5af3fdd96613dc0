//go:build integration

package integration

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A build with nothing to do opens no file of the context but those that it
// cannot do without, and a file that was touched is noticed, whatever its
// times say.
func TestUntouchedContextIsNotRead(t *testing.T) { // not in parallel: searches for secrets open every file
	p := newProject(t, "version: 1\nstages:\n  - name: final\n    from: scratch\n    steps: [{copy: data, to: /data}]\n")
	p.write("data/file", p.nonce+" one")
	name := filepath.Join(p.dir, "data/file")
	if !keepsChangeTimes(t, name) {
		t.Skip("the change times of this file system are not trusted")
	}
	time.Sleep(2500 * time.Millisecond) // what was just written may be written again at the same time
	p.build().ok().wantSteps(1, 1)
	opened := watchOpening(t, name)
	p.build().ok().wantSteps(2, 0)
	if opened() {
		t.Error("a build with nothing to do has read the context")
	}
	var before unix.Stat_t
	if err := unix.Stat(name, &before); err != nil {
		t.Fatal(err)
	}
	p.write("data/file", p.nonce+" two")
	if err := unix.UtimesNano(name, []unix.Timespec{before.Atim, before.Mtim}); err != nil {
		t.Fatal(err)
	}
	img, o := p.export()
	o.wantSteps(1, 1)
	if got := img.file("/data/file").content; !strings.HasSuffix(got, " two") {
		t.Errorf("the image has the old content %q", got)
	}
}

// keepsChangeTimes knows the file systems of ordinary machines.
func keepsChangeTimes(t *testing.T, name string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		t.Fatal(err)
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}

// watchOpening returns a function that says whether anybody has opened the
// file since.
func watchOpening(t *testing.T, name string) func() bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		n, err := unix.Read(fd, make([]byte, 4096))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return n > 0
	}
}
