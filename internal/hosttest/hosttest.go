// Package hosttest has, for tests, an image with links to files of the host: a
// function that takes names from an image must neither read nor change these.
package hosttest

import (
	"crypto/sha256"
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

// Fingerprint changes when anything in a directory changes.
func Fingerprint(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		names := make([]byte, 1000)
		n, _ := unix.Llistxattr(name, names) // none where there are no attributes
		_, err = fmt.Fprintln(h, name, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, st.Nlink, string(names[:max(0, n)]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
