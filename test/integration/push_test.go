//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// Layers are sent straight from their files. One that has been damaged in the
// store is an error, and never becomes an image in a registry.
func TestDamagedLayerIsNotPushed(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	name := registry.Start(t, registry.Options{}) + "/group/app:"
	p := newProject(t, "version: 1\nname: localhost/app\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE good}]\n")
	p.freshStore()
	p.build("--tag", "1").ok()
	if o := p.run("push", "--storage-root", p.store, "--tls-verify=false", "localhost/app:1", name+"good"); o.code != 0 {
		t.Fatal(o.stderr)
	}
	judge(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name+"good", "dir:"+t.TempDir())
	found, err := filepath.Glob(filepath.Join(p.store, "overlay/*/diff/f"))
	if err != nil || len(found) != 1 {
		t.Skipf("the store does not keep layers as overlay does: %v, %v", found, err)
	}
	if err := os.WriteFile(found[0], []byte(p.nonce+" evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, compression := range []string{"gzip", "zstd"} {
		// Else the good blob is known, and nothing has to be read.
		if err := os.RemoveAll(filepath.Join(p.store, "pdibuild/cache")); err != nil {
			t.Fatal(err)
		}
		p.run("push", "--storage-root", p.store, "--tls-verify=false", "--compression", compression, "localhost/app:1", name+"evil").fails(7)
		if out, err := tryJudge("skopeo", "inspect", "--tls-verify=false", "docker://"+name+"evil"); err == nil {
			t.Errorf("the registry has the damaged image:\n%s", out)
		}
	}
	p.run("export", "--storage-root", p.store, "localhost/app:1", fmt.Sprintf("oci:%s/o", t.TempDir())).fails(1)
}

// A layer that the repository got with an earlier image is neither compressed
// nor sent again, and no request names it. Once the registry has lost that
// image, the layers are asked for; and sent, where they are lost, too.
func TestPushAsksForNoLayerAgain(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--compression", "zstd"}, {"--compression-level", "9"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) { testPushAsksForNoLayerAgain(t, flags) })
	}
}

func testPushAsksForNoLayerAgain(t *testing.T, flags []string) {
	f := registry.StartFront(t, registry.FrontOptions{})
	name := f.Address + "/group/app:"
	recipe := "version: 1\nstages:\n  - name: final\n    from: scratch\n    steps:\n      - {file: /a, content: NONCE a}\n      - {file: /b, content: NONCE b}\n      - {file: /c, content: NONCE LAST}\n"
	p := newProject(t, strings.Replace(recipe, "LAST", "1", 1))
	push := func(tag, last string) []string {
		t.Helper()
		p.recipe(strings.Replace(recipe, "LAST", last, 1))
		f.Asked()
		p.build(append(flags, "-t", name+tag, "--push", "--tls-verify=false")...).ok()
		asked := f.Asked()
		judge(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name+tag, "dir:"+t.TempDir())
		return asked
	}
	needTool(t, "skopeo")
	if n := countAsked(push("1", "1"), "PATCH"); n != 4 {
		t.Fatalf("the first push sent %d blobs, want 3 layers and the configuration", n)
	}
	// Of the second image one layer and the configuration are new.
	asked := push("2", "2")
	if countAsked(asked, "PATCH") != 2 || countAsked(asked, "HEAD /v2/group/app/blobs/") > 3 || countAsked(asked, "HEAD /v2/group/app/manifests/") != 1 {
		t.Errorf("the second push asked:\n%s", strings.Join(asked, "\n"))
	}
	// Of the same image with another name, nothing is.
	asked = push("3", "2")
	if countAsked(asked, "PATCH") != 0 || countAsked(asked, "HEAD /v2/group/app/blobs/") > 1 {
		t.Errorf("the push of the same image asked:\n%s", strings.Join(asked, "\n"))
	}
	f.Refuse(func(r *http.Request) int {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/") {
			return http.StatusNotFound
		}
		return 0
	})
	asked = push("4", "3")
	if countAsked(asked, "PATCH") != 2 || countAsked(asked, "HEAD /v2/group/app/blobs/") < 4 {
		t.Errorf("the push to a registry that has lost its images asked:\n%s", strings.Join(asked, "\n"))
	}
}

// A layer that the repository has in gzip form is sent in the form that is asked
// for, and then both are known.
func TestPushInAnotherForm(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	f := registry.StartFront(t, registry.FrontOptions{})
	name := f.Address + "/group/app:"
	p := newProject(t, "version: 1\nname: localhost/app\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE}]\n")
	p.build("--tag", "1").ok()
	for i, form := range []string{"gzip", "zstd", "zstd:chunked", "zstd", "gzip"} {
		f.Asked()
		tag := fmt.Sprint(name, i)
		if o := p.run("push", "--storage-root", p.store, "--tls-verify=false", "--compression", form, "localhost/app:1", tag); o.code != 0 {
			t.Fatal(o.stderr)
		}
		manifest := judge(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+tag)
		if want := "+" + strings.TrimSuffix(form, ":chunked"); !strings.Contains(manifest, want) {
			t.Errorf("push %d has no layer in %s form:\n%s", i, form, manifest)
		}
		if chunked := strings.Contains(manifest, "zstd-chunked"); chunked != (form == "zstd:chunked") {
			t.Errorf("push %d in %s form:\n%s", i, form, manifest)
		}
		if sent := countAsked(f.Asked(), "PATCH"); i > 2 && sent != 0 {
			t.Errorf("push %d, in a form that the repository had got before, sent %d blobs", i, sent)
		}
	}
}

// countAsked counts the requests that begin with a text.
func countAsked(asked []string, begin string) int {
	return len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return !strings.HasPrefix(r, begin) }))
}
