package spack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// realSpack returns a function that runs Spack in a directory with a
// spack.yaml, or skips.
func realSpack(t *testing.T) func(text string, args ...string) string {
	t.Helper()
	program := os.Getenv("PDIBUILD_SPACK")
	if program == "" {
		t.Skip("SKIPPED: PDIBUILD_SPACK does not name a Spack to compare with")
	}
	return func(text string, args ...string) string {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "spack.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v of\n%s", args, err, text)
		}
		return string(out)
	}
}

// The images and commands are those of 'spack containerize'.
func TestSpackAgreesOnImages(t *testing.T) {
	run := realSpack(t)
	for _, name := range strings.Fields(`alpine:3 amazonlinux:2 fedora:40 rockylinux:9 almalinux:8 centos:stream9
		opensuse/leap:15 nvidia/cuda:11.2.1 ubuntu:24.04 ubuntu:22.04`) {
		for _, source := range []string{"develop", "{ref: v1.0.0}"} {
			text := fmt.Sprintf("spack:\n  specs: [zlib]\n  container: {images: {os: %q, spack: %s}, os_packages: {final: [make]}}\n", name, source)
			var from []string
			words := strings.Fields(strings.ReplaceAll(run(text, "containerize"), "\\\n", " "))
			for i, w := range words {
				if w == "FROM" {
					from = append(from, words[i+1])
				}
			}
			base, err := parse(t, text).Container.Base()
			if err != nil {
				t.Error(err)
			}
			want := []string{base.Build, base.Final}
			if base.Bootstrap != "" {
				want = []string{base.Bootstrap, "bootstrap", base.Final}
			}
			if !slices.Equal(from, want) {
				t.Errorf("%s, %s: Spack starts from %v, not %v", name, source, from, want)
			}
			c, err := spack.CommandsFor(base.PackageManager)
			if err != nil || !strings.Contains(strings.Join(words, " "), "RUN "+c.Update+" && "+c.Install+" make && "+c.Clean) {
				t.Errorf("%s: Spack does not use %+v, %v", name, c, err)
			}
		}
	}
}

// What is rewritten means the same to Spack.
func TestSpackReadsRewritten(t *testing.T) {
	run := realSpack(t)
	data, err := parse(t, tutorial).Rewrite(spack.Remove("container"), spack.Remove("include"), spack.Set("/opt/views/view", "view"),
		spack.Set("/opt/software", "config", "install_tree", "root"), spack.Set(map[string]string{}, "repos"))
	if err != nil {
		t.Fatal(err)
	}
	for section, want := range map[string]string{
		"view":   "view: /opt/views/view\n",
		"config": "config:\n  install_tree:\n    padded_length: 128\n    root: /opt/software\n",
		"repos":  "repos: {}\n", // the key says that other files' are overridden
	} {
		if got := run(string(data), "-e", ".", "config", "get", section); !strings.HasPrefix(got, want) {
			t.Errorf("Spack has %.200s, not %s", got, want)
		}
	}
}
