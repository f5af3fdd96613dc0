package containerfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/containerfile"
)

// The base image may have another user: that a recipe goes back to root is said.
func TestUserRootIsWritten(t *testing.T) {
	dir := t.TempDir()
	recipe := "version: 1\nname: x\nstages:\n  - name: final\n    from: example.org/with-a-user\n    steps: [{user: root}, {run: id}]\n"
	if err := os.WriteFile(filepath.Join(dir, "pdibuild.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	if text := write(t, dir, containerfile.Docker); !strings.Contains(text, "\nUSER root\n") {
		t.Errorf("it has no USER root:\n%s", text)
	}
}
