//go:build integration

package integration

import (
	"archive/tar"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/busybox"
)

// archiveWithConfig is an image that has a shell and this configuration.
func archiveWithConfig(t *testing.T, config map[string]any) string {
	t.Helper()
	program, err := os.ReadFile(busybox.Find(t))
	if err != nil {
		t.Fatal(err)
	}
	layer := tarOf(t, []archiveEntry{
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, content: program},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "busybox"}},
	})
	data, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sha256Hex(string(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	all := tarOf(t, []archiveEntry{
		{tar.Header{Typeflag: tar.TypeReg, Name: "config.json", Mode: 0o644}, data},
		{tar.Header{Typeflag: tar.TypeReg, Name: "layer.tar", Mode: 0o644}, layer},
		{tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644}, []byte(`[{"Config":"config.json","Layers":["layer.tar"]}]`)},
	})
	if err := os.WriteFile(file, all, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// Base images with odd configurations work as with podman, or the error is about
// the image.
func TestOddConfigurations(t *testing.T) {
	t.Parallel()
	inEachIsolation(t, func(t *testing.T, isolation string) {
		build := func(config map[string]any, command string) (*project, outcome) {
			p := newProject(t, "version: 1\nname: localhost/odd\nstages:\n  - name: final\n    from: docker-archive:"+archiveWithConfig(t, config)+"\n    steps:\n      - run: '"+command+" # NONCE'\n")
			return p, p.build("--isolation", isolation)
		}
		p, o := build(map[string]any{"WorkingDir": "/none/deep", "User": "1234:50", "Env": []string{"PATH=/bin", "NOEQ", "A=b"}},
			`test "$(pwd) $A" = "/none/deep b" && busybox touch x && busybox stat -c "%u:%g %a" /none . `)
		o.ok().says("1234:50 755", `variable "NOEQ"`)
		p.in("run", o.ImageID, "--", "busybox", "stat", "-c", "%u:%g", ".", "x").prints("1234:50\n1234:50\n")
		_, o = build(map[string]any{"Env": []string{"A=a\x00b"}}, "true")
		o.fails(3, "base image", "zero byte")
		_, o = build(map[string]any{"User": "-1:-1"}, "true")
		o.fails(3, `no user "-1"`)
	})
}

// A stage without a shell is told so, and nobody is sent to a shell in it.
func TestNoShell(t *testing.T) {
	t.Parallel()
	inEachIsolation(t, func(t *testing.T, isolation string) {
		p := newProject(t, "version: 1\nstages:\n  - name: final\n    from: scratch\n    steps: [{run: echo NONCE}]\n")
		o := p.build("--isolation", isolation).fails(4, "the stage has no /bin/sh", "write the command as a list")
		if strings.Contains(o.stderr, "shell --failed") {
			t.Errorf("a shell is offered:\n%s", o.stderr)
		}
	})
}
