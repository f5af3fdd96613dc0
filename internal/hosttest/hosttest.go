// Package hosttest makes, for tests, an image with links to files of the host (a
// function that takes names from an image must neither read nor change these) and
// other trees of files, and tells whether one has changed.
package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// Text is in all files of the host.
const Text = "of the host"

// Image makes a root with links to a directory of the host, absolute and with many
// "..", at its top and as parts of paths that are looked for. The directory has
// what a function may look for.
func Image(t *testing.T) (root *rootfs.Root, host string) {
	t.Helper()
	top := t.TempDir()
	host = top + "/host"
	for name, text := range map[string]string{
		"secret": "", "bin/sh": "", "etc/passwd": "app:x:7:7::/" + Text + ":/\n", "lib/libhost.so.1": "", "ld/host.conf": "/" + Text + "\n",
		"info/host.list": "/lib/libhost.so.1\n", ".spack-db/index.json": `{"database": {"version": "8", "installs": {}}, "` + Text + `": 1`,
		"__spack_path_placeholder__/.spack-db/index.json": "{",
		"repos/x/packages/pkg/package.py":                 "class Pkg(Package):\n    license(\"" + Text + "\")\n", "spack.yaml": "", "spack.lock": "",
		"strip-1": "", "captured": "", "build.log": "",
	} {
		if text == "" {
			text = Text
		}
		Write(t, filepath.Join(host, name), text)
	}
	library, err := os.ReadFile("/proc/self/exe") // any ELF file
	if err != nil {
		t.Fatal(err)
	}
	Write(t, host+"/lib/libelf.so", string(library))
	image := top + "/image"
	dots := strings.Repeat("../", 40) + strings.TrimPrefix(host, "/")
	for link, target := range map[string]string{
		"abs": host, "dots": dots, "data/abs": host, "data/dots": dots, "data/file": host + "/secret", "bin": host + "/bin", "etc": host + "/etc",
		"var/lib/dpkg/info": host + "/info", "lib": dots + "/lib", "opt/view": host, "out/captured": host + "/captured", "out/strip-1": host + "/strip-1",
		"opt/env/spack.yaml": host + "/spack.yaml", "opt/env/repos": host, "opt/env/new": host + "/new", "pkg/lib64": host + "/lib", "pkg/.spack": host,
	} {
		full := filepath.Join(image, link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.Symlink(target, full)); err != nil {
			t.Fatal(err)
		}
	}
	Write(t, image+"/conf", "include /data/*/ld/*.conf\ninclude abs/ld/*.conf\n")
	root, err = rootfs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, host
}

// Write writes a file.
func Write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// State lists everything in a directory: whatever changes there changes it.
func State(t *testing.T, dir string) string {
	t.Helper()
	var state strings.Builder
	Must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		names := make([]byte, 1000)
		n, _ := unix.Llistxattr(name, names) // none where there are no attributes
		_, err = fmt.Fprintf(&state, "%s mode %o owner %d:%d size %d time %v names %d attributes %q\n",
			name, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, st.Nlink, names[:max(0, n)])
		return err
	}))
	return state.String()
}

// Plant makes a tree of files. A line is "DIR/", "FILE", whose content is its
// name, "LINK -> TARGET" or "NAME = OTHER", a hard link.
func Plant(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, " -> ")
		name, other, isHard := strings.Cut(name, " = ")
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case isLink:
			err = errors.Join(err, os.Symlink(target, full))
		case isHard:
			err = errors.Join(err, os.Link(filepath.Join(dir, other), full))
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(full, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(full, []byte(name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Must ends the test at the first error.
func Must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
