package builder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A lock file is replaced as a whole; through a link it is written where that
// leads, but never outside of the context.
func TestWriteInContext(t *testing.T) {
	dir := t.TempDir()
	context, outside := filepath.Join(dir, "context"), filepath.Join(dir, "outside")
	if err := errors.Join(os.MkdirAll(context+"/env", 0o755), os.WriteFile(outside, []byte("mine"), 0o600), os.Symlink("shared.lock", context+"/link"), os.Symlink("../outside", context+"/out")); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"env/spack.lock": "env/spack.lock", "link": "shared.lock"} {
		for _, text := range []string{"new", "again"} {
			if err := writeInContext(context, name, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if data, err := os.ReadFile(filepath.Join(context, file)); err != nil || string(data) != text {
				t.Errorf("%s has %q (%v), want %q", file, data, err, text)
			}
		}
	}
	if err := writeInContext(context, "out", []byte("theirs")); err == nil {
		t.Error("a link out of the context is followed")
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "mine" {
		t.Errorf("the file outside has %q (%v)", data, err)
	}
	if entries, err := os.ReadDir(context + "/env"); err != nil || len(entries) != 1 {
		t.Errorf("beside the lock file there is %v (%v)", entries, err)
	}
}
