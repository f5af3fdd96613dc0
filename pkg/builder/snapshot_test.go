package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// What a command has touched is found although sizes and times are as before.
func TestSnapshotFindsWhatACommandTouches(t *testing.T) {
	for command, want := range map[string]string{
		"true":                           "",
		"cat a b c d/f e/f >/dev/null":   "",
		"mv a z; mv b a; mv z b":         "a b",
		"cp -p b a":                      "a",
		"echo 3 >a; touch -d @0 a":       "a",
		"echo 3 >d/f; touch -d @0 d/f d": "d/ d/f",
		"mv d z; mv e d; mv z e":         "d/ d/f d/.wh.g e/ e/f e/g/ e/g/h",
		"mv d e/":                        ".wh.d e/ e/d/ e/d/f e/d/g/ e/d/g/h",
		"rm -r d; cp -p a d":             "d",
		"rm -r d; ln -s e d":             "d",
		"rm a; mkdir a; echo x >a/x":     "a/ a/x",
		"rm -r d/g":                      "d/ d/.wh.g",
		"rm -r d e/f":                    ".wh.d e/ e/.wh.f",
		"ln c z; touch -d @0 c":          "c z",
		"chmod 600 d/g/h":                "d/ d/g/ d/g/h",
		"ln -sfn b l; touch -h -d @0 l":  "l",
	} {
		t.Run(command, func(t *testing.T) {
			dir := t.TempDir()
			runShell(t, dir, "mkdir -p d/g e; echo 1 >a; echo 2 >b; echo 0 >c; echo 1 >d/f; echo 2 >e/f; echo 5 >d/g/h; ln -s a l; find . -exec touch -h -d @0 {} +")
			root, err := rootfs.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			wk := &work{root: root}
			if wk.first, err = takeSnapshot(root); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // a command takes longer to start
			runShell(t, dir, command)
			if got := strings.Join(touchedNames(t, wk), " "); got != want {
				t.Errorf("touched are %q, want %q", got, want)
			}
		})
	}
}

// A socket, which is in no layer, leaves nothing of the file in whose place it is.
func TestSnapshotRemovesWhatASocketReplaces(t *testing.T) {
	dir := t.TempDir()
	runShell(t, dir, "echo 1 >a")
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	wk := &work{root: root}
	if wk.first, err = takeSnapshot(root); err != nil {
		t.Fatal(err)
	}
	runShell(t, dir, "rm a")
	t.Chdir(dir) // its name may have 107 bytes
	socket, err := net.Listen("unix", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if got := strings.Join(touchedNames(t, wk), " "); got != ".wh.a" {
		t.Errorf("touched are %q, want the whiteout of a", got)
	}
}

func runShell(t *testing.T, dir, command string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", command)
	cmd.Dir = filepath.Clean(dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// touchedNames are the names in the layer of what was touched.
func touchedNames(t *testing.T, wk *work) (names []string) {
	t.Helper()
	tree := &layer.Tree{}
	if err := wk.scanTouched(tree); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := tree.Encode(&out, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&out); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, hdr.Name)
	}
}
