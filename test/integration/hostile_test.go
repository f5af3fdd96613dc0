//go:build integration

package integration

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var many = flag.Int("many", 5_000, "how many `files` a hostile image and a hostile context have")

// A handmade image is one that no tool would make: its layers are archives that
// were written entry by entry.
type handmade struct {
	t      *testing.T
	dir    string
	layers []any
	diffs  []string
	// settings are those of its configuration.
	settings map[string]any
}

func newHandmade(t *testing.T) *handmade {
	t.Helper()
	h := &handmade{t: t, dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(h.dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

// layer adds a layer.
func (h *handmade) layer(write func(*tar.Writer) error) *handmade {
	h.t.Helper()
	file, err := os.CreateTemp(h.dir, "layer-*")
	if err != nil {
		h.t.Fatal(err)
	}
	sum := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(file, sum))
	err = errors.Join(write(archive), archive.Close())
	size, seekErr := file.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, seekErr, file.Close()); err != nil {
		h.t.Fatal(err)
	}
	digest := fmt.Sprintf("sha256:%x", sum.Sum(nil))
	if err := os.Rename(file.Name(), h.blob(digest)); err != nil {
		h.t.Fatal(err)
	}
	h.layers = append(h.layers, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
	h.diffs = append(h.diffs, digest)
	return h
}

// of writes the entries of a layer; a file's content is in its Linkname.
func of(entries ...tar.Header) func(*tar.Writer) error {
	return func(w *tar.Writer) error {
		for _, hdr := range entries {
			content := ""
			if hdr.Typeflag == tar.TypeReg {
				content, hdr.Linkname, hdr.Size = hdr.Linkname, "", int64(len(hdr.Linkname))
			}
			if hdr.Mode == 0 {
				hdr.Mode = 0o755
			}
			if err := w.WriteHeader(&hdr); err != nil {
				return fmt.Errorf("%q: %w", hdr.Name, err)
			}
			if _, err := io.WriteString(w, content); err != nil {
				return err
			}
		}
		return nil
	}
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hardLink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func (h *handmade) blob(digest string) string {
	return filepath.Join(h.dir, "blobs", strings.Replace(digest, ":", "/", 1))
}

func (h *handmade) json(value any) map[string]any {
	h.t.Helper()
	data, err := json.Marshal(value)
	digest := "sha256:" + sha256Hex(string(data))
	if err := errors.Join(err, os.WriteFile(h.blob(digest), data, 0o644)); err != nil {
		h.t.Fatal(err)
	}
	return map[string]any{"digest": digest, "size": len(data)}
}

// reference is the image for 'from:'.
func (h *handmade) reference() string {
	h.t.Helper()
	config := h.json(map[string]any{"architecture": "amd64", "os": "linux", "config": h.settings, "rootfs": map[string]any{"type": "layers", "diff_ids": h.diffs}})
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	manifest := h.json(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": h.layers})
	manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	if err := errors.Join(err, os.WriteFile(filepath.Join(h.dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(h.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)); err != nil {
		h.t.Fatal(err)
	}
	return "oci:" + h.dir
}

// An outside is a directory of the host that no image may read or change. Every
// user may write to it, so only pdibuild is in the way.
type outside struct {
	t      *testing.T
	dir    string
	before string
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{t: t, dir: t.TempDir()}
	if err := errors.Join(os.WriteFile(filepath.Join(o.dir, "canary"), []byte("of the host"), 0o666), os.Mkdir(filepath.Join(o.dir, "sub"), 0o777)); err != nil {
		t.Fatal(err)
	}
	o.before = o.list()
	return o
}

func (o *outside) list() string {
	o.t.Helper()
	var all strings.Builder
	err := filepath.Walk(o.dir, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&all, name, info.Mode(), info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return all.String()
}

func (o *outside) wantUntouched() {
	o.t.Helper()
	if now := o.list(); now != o.before {
		o.t.Errorf("outside of the root, something has changed:\n%swas\n%s", now, o.before)
	}
}

const up = "../../../../../../../../../../../../../../../.."

// A base image that leads out of its root is refused, or its names are taken
// inside: nothing outside of it is read or written, neither when it is fetched
// nor when steps use it.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	// Steps that write and read through what the image has.
	const through = "[{file: /link/evil, content: x}, {copy: pdibuild.yaml, to: /link/sub/evil}, {copy: /link/canary, from: base, to: /canary}]"
	const plain = "[{file: /made, content: x}]"
	for name, c := range map[string]struct {
		layers []func(*tar.Writer) error
		steps  string
		// wrong is what a refusal says; empty means that it is built.
		wrong string
	}{
		"names that lead up": {layers: []func(*tar.Writer) error{of(file(up+o.dir+"/evil", "x"), file("a/../../../evil", "x"))}, steps: plain},
		"absolute names":     {layers: []func(*tar.Writer) error{of(file(o.dir+"/evil", "x"))}, steps: plain},
		"file through a link": {
			layers: []func(*tar.Writer) error{of(link("link", o.dir), file("link/evil", "x"), file("link/canary", "changed"))}, steps: plain, wrong: "unpacking failed",
		},
		"file through a link of a lower layer": {
			layers: []func(*tar.Writer) error{of(link("link", up+o.dir)), of(file("link/canary", "changed"))}, steps: plain,
		},
		"hard link out": {layers: []func(*tar.Writer) error{of(hardLink("hard", up+o.dir+"/canary"))}, steps: plain, wrong: "unpacking failed"},
		"hard link through a link": {
			layers: []func(*tar.Writer) error{of(link("link", o.dir), hardLink("hard", "link/canary"))}, steps: plain, wrong: "unpacking failed",
		},
		"root is a link":            {layers: []func(*tar.Writer) error{of(link("./", o.dir), file("evil", "x"))}, steps: plain},
		"removes what is above":     {layers: []func(*tar.Writer) error{of(file("a", "x")), of(file(".wh...", ""), file(".wh..", ""), file("a/.wh..", ""))}, steps: plain, wrong: "unpacking failed"},
		"removes through a link":    {layers: []func(*tar.Writer) error{of(link("link", o.dir)), of(file("link/.wh.canary", ""))}, steps: plain},
		"steps through a link":      {layers: []func(*tar.Writer) error{of(link("link", o.dir))}, steps: through, wrong: "/link/canary is not in the stage"},
		"steps through a link up":   {layers: []func(*tar.Writer) error{of(link("link", up+o.dir))}, steps: through, wrong: "/link/canary is not in the stage"},
		"links that go in circles":  {layers: []func(*tar.Writer) error{of(link("link", "b"), link("b", "link"), link("self", "self"))}, steps: through, wrong: "too many levels of symbolic links"},
		"hard links in circles":     {layers: []func(*tar.Writer) error{of(hardLink("a", "b"), hardLink("b", "a"))}, steps: plain, wrong: "unpacking failed"},
		"attributes of the overlay": {layers: []func(*tar.Writer) error{of(overlayAttributes("d", o.dir))}, steps: plain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandmade(t)
			for _, l := range c.layers {
				h.layer(l)
			}
			p := newProject(t, "version: 1\nstages:\n  - {name: base, from: '"+h.reference()+"', steps: [{file: /NONCE, content: x}]}\n  - {name: s, from: base, steps: "+c.steps+"}\n")
			p.freshStore()
			dir := filepath.Join(t.TempDir(), "oci")
			outcome := p.build("--compression", "none", "-o", "type=oci,dest="+dir)
			o.wantUntouched()
			if outcome.code != 0 {
				t.Logf("refused with exit code %d: %s", outcome.code, lastLines(outcome.stderr))
			}
			if c.wrong == "" {
				outcome.ok()
				for name, e := range readOCI(t, dir).files() {
					if e.content == "of the host" {
						t.Errorf("%s has what is outside", name)
					}
				}
				return
			}
			outcome.fails(3, c.wrong)
		})
	}
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}

// overlayAttributes has what the kernel's overlay would follow.
func overlayAttributes(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.trusted.overlay.redirect": to, "SCHILY.xattr.user.overlay.redirect": to,
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y",
	}}
}

// Device nodes of an image open nothing, whoever builds.
func TestHostileDevices(t *testing.T) {
	t.Parallel()
	h := newHandmade(t).layer(of(
		tar.Header{Typeflag: tar.TypeChar, Name: "zero", Mode: 0o666, Devmajor: 1, Devminor: 5},
		tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o666, Devmajor: 8, Devminor: 0},
		tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o666},
	))
	p := newProject(t, "version: 1\nstages:\n  - {name: devices, from: '"+h.reference()+"', steps: [{file: /NONCE, content: x}]}\n"+
		"  - {name: s, from: BASE, steps: [{run: 'for d in zero disk; do if head -c 1 /mnt/$d >/dev/null 2>&1; then echo opened $d; exit 1; fi; done; echo none NONCE', mounts: [{type: bind, from: devices, source: /, target: /mnt}]}]}\n")
	p.build().ok().says("none " + p.nonce)
}

// strangeNames are names that Linux allows.
var strangeNames = []string{"new\nline", "tab\tand \x1b[31mcolour", "no utf-8 \xff\xfe", "-rf", " ", "a:b", "back\\slash", "$(reboot)", "*", "ünï", strings.Repeat("n", 255)}

// Names with newlines, escape sequences and what is no UTF-8 go through a build
// as they are, and reach no terminal as they are.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	h := newHandmade(t)
	var entries []tar.Header
	for _, name := range strangeNames {
		entries = append(entries, file("base/"+name, "base "+name))
	}
	p := newProject(t, "version: 1\nstages:\n  - {name: base, from: '"+h.layer(of(entries...)).reference()+"', steps: [{file: /NONCE, content: x}]}\n"+
		"  - {name: s, from: scratch, steps: [{copy: context, to: /context}, {copy: /base, from: base, to: /copied}]}\n")
	for _, name := range strangeNames {
		p.write("context/"+name, "context "+name)
	}
	img, o := p.export()
	files := img.files()
	for _, name := range strangeNames {
		if got := files["/copied/"+name].content; got != "base "+name {
			t.Errorf("%q from the image: %q", name, got)
		}
		if got := files["/context/"+name].content; got != "context "+name {
			t.Errorf("%q from the context: %q", name, got)
		}
	}
	if strings.Contains(o.stderr, "\x1b") {
		t.Errorf("escape sequences are shown:\n%q", o.stderr)
	}
	// Nor does a message about such a name.
	p.recipe("version: 1\nstages:\n  - {name: s, from: scratch, steps: [{copy: \"no\\nsuch \\e[31m\", to: /x}]}\n")
	if o := p.build(); o.code == 0 || strings.Contains(o.stderr, "\x1b") {
		t.Errorf("exit code %d, and the message is %q", o.code, o.stderr)
	}
}

// Very many files are only that.
func TestVeryManyFiles(t *testing.T) {
	t.Parallel()
	h := newHandmade(t).layer(func(w *tar.Writer) error {
		for i := range *many {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Name: fmt.Sprintf("many/%d/%d", i/1000, i)}); err != nil {
				return err
			}
		}
		return nil
	})
	p := newProject(t, "version: 1\nstages:\n  - {name: base, from: '"+h.reference()+"', steps: [{file: /NONCE, content: x}]}\n"+
		"  - {name: s, from: scratch, steps: [{copy: /many, from: base, to: /many}, {copy: context, to: /context}]}\n")
	for i := range *many {
		p.write(fmt.Sprintf("context/%d/%d", i/1000, i), "")
	}
	p.freshStore()
	start := time.Now()
	img, _ := p.export()
	t.Logf("%d files from an image and as many from the context: %.1f s", *many, time.Since(start).Seconds())
	files := 0
	for _, e := range img.files() {
		if e.Typeflag == tar.TypeReg {
			files++
		}
	}
	if files != 2**many {
		t.Errorf("%d of %d files are in the image", files, 2**many)
	}
}

// A context that changes while it is being built from ends the build as one that
// does not fit the recipe, and leaves no image; at rest, it is built.
func TestContextChangesUnderBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\nname: localhost/changing-NONCE\nstages:\n  - {name: s, from: BASE, steps: [{run: 'echo begun NONCE; sleep 3'}, {copy: data, to: /data}]}\n")
	p.write("data", "before "+p.nonce)
	cmd := p.command(p.buildArgs()...)
	var said text
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first step", func() bool { return strings.Contains(said.String(), "begun "+p.nonce) }) // after the base
	p.write("data", "after "+p.nonce)
	_ = cmd.Wait() // its code says more
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(said.String(), "data") || !strings.Contains(said.String(), "run the build again") {
		t.Errorf("exit code %d, want 3\n%s", code, said.String())
	}
	if o := p.run("images", "--storage-root", p.store); strings.Contains(o.stdout, p.nonce) {
		t.Errorf("there is an image:\n%s", o.stdout)
	}
	img, o := p.export()
	if got := img.file("/data").content; got != "after "+p.nonce {
		t.Errorf("the image has %q", got)
	}
	o.wantSteps(2, 1) // base and the first step were kept
}
