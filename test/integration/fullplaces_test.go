//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system in memory with so much room.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: only root mounts file systems")
	}
	dir := t.TempDir()
	if err := unix.Mount("test", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("SKIPPED: no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves no room.
func fill(t *testing.T, dir string) (again func()) {
	t.Helper()
	name := filepath.Join(dir, "filling")
	if err := os.WriteFile(name, make([]byte, 64<<20), 0o600); err == nil {
		t.Fatalf("%s is not small", dir)
	}
	return func() { _ = os.Remove(name) }
}

// What is full is named, and it is this host's disk, not the command line or the
// step.
func TestFullDestinations(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=64k")
	fill(t, disk)
	p := newProject(t, smallRecipe)
	id := p.build().ok().ImageID
	for _, destination := range []string{"oci-archive:" + disk + "/a.tar", "docker-archive:" + disk + "/a.tar", "oci:" + disk + "/o", "dir:" + disk + "/d"} {
		o := p.run("export", "--storage-root", p.store, id, destination)
		o.fails(5, "no space left on device", "make room where "+disk)
		if strings.Contains(o.stderr, "prune") {
			t.Errorf("%s: clearing the store does not help:\n%s", destination, o.stderr)
		}
	}
	p.build("--iidfile", disk+"/id").says("make room where " + disk)
	p.run("cache", "export", "--storage-root", p.store, "--to", "type=local,dest="+disk+"/c", p.dir).fails(5, "make room where "+disk)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := p.command("schema")
	cmd.Stdout = full
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("standard output without room: exit code %d", cmd.ProcessState.ExitCode())
	}
}

// Archives are read without TMPDIR; a full store is told as such, and can be
// cleared all the same.
func TestFullStore(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	p.freshStore()
	archive := filepath.Join(t.TempDir(), "a.tar")
	p.write("large", strings.Repeat("x", 4<<20))
	p.recipe(strings.Replace(smallRecipe, "steps:", "steps:\n      - {copy: large, to: /large}", 1))
	p.build("--compression", "none", "-o", "oci-archive:"+archive).ok()

	disk := smallDisk(t, "size=12m")
	p.env = []string{"TMPDIR=" + filepath.Join(disk, "missing")}
	if o := p.run("inspect", "--storage-root", p.store, "oci-archive:"+archive); o.code != 0 {
		t.Errorf("without TMPDIR: exit code %d\n%s", o.code, o.stderr)
	}
	p.store = filepath.Join(disk, "store")
	p.recipe(smallRecipe)
	p.build().ok()
	p.write("pdibuild.yaml", strings.Replace(p.read("pdibuild.yaml"), "/hello", "/other", 1))
	p.build().ok()
	empty := fill(t, disk)
	p.run("inspect", "--storage-root", p.store, "oci-archive:"+archive).fails(5, "no space left", "cache prune")
	p.build("--no-cache").says("no space left", "cache prune")
	for _, args := range [][]string{{"images"}, {"cache", "ls"}, {"cache", "prune"}, {"cache", "verify"}} {
		if o := p.run(append(args, "--storage-root", p.store)...); o.code != 0 {
			t.Errorf("%v: exit code %d\n%s", args, o.code, o.stderr)
		}
	}
	empty()
	p.build().ok()
}
