package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/busybox"
)

// The program is built and run as a user does it: twice, with a store of its own.
func TestProgram(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "pdibuild-example-") // /tmp may have no extended attributes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "library")
	if out, err := exec.Command("go", "build", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	run := func() (id, progress string) {
		cmd := exec.Command(program, busybox.Find(t))
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return string(out), stderr.String()
	}
	storage := "[storage]\ndriver = \"vfs\"\ngraphroot = \"" + dir + "/store\"\nrunroot = \"" + dir + "/run\"\n"
	if err := os.WriteFile(filepath.Join(dir, "storage.conf"), []byte(storage), 0o644); err != nil {
		t.Fatal(err)
	}
	id, progress := run()
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(id) || !strings.Contains(progress, "[final 2/2] copy computed:/squares → /data/squares\n") {
		t.Errorf("id %q, progress:\n%s", id, progress)
	}
	again, progress := run()
	if again != id || strings.Contains(progress, "done in") {
		t.Errorf("the second time: id %q, progress:\n%s", again, progress)
	}
}
