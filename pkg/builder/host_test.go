package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/hosttest"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Whatever takes a name of an image sees and changes files of the image alone.
func TestNothingOfTheHost(t *testing.T) {
	root, host := hosttest.Image(t)
	view := &rootView{Root: root}
	wk := &work{root: root}
	files := func() *layerFiles {
		return &layerFiles{dirs: []string{root.HostPath()}, having: map[string][]int{"/": {0}}}
	}
	hostNames := hostNamesAsLayer(t, host)
	names := []string{"/abs/secret", "/dots/secret", "/data/abs/secret", "/data/file", "/abs/lib/libelf.so"}
	eachName := func(f func(name string) any) (all []any) {
		for _, name := range names {
			all = append(all, f(name))
		}
		return all
	}
	for what, f := range map[string]func() any{
		"read": func() any { return eachName(func(name string) any { data, _ := view.read(name); return string(data) }) },
		"header": func() any {
			return eachName(func(name string) any { h, _ := view.header(path.Dir(name) + "/bin/sh"); return h })
		},
		"lookup": func() any { fields, _ := view.lookup("/etc/passwd", "app", 4); return fields },
		"copy": func() any {
			return copied(t, view, files(), "/abs", "/abs/*", "/d*/secret", "/data/*/secret", "/data/f*", "/data/file", "/data/abs/sec*", "/*/lib/*.so")
		},
		"shell":         func() any { shell, _ := imageShell(view); return shell },
		"layer's files": func() any { return eachName(func(name string) any { return layerFilesFind(files(), name) }) },
		"layer's root": func() any {
			r := &layerRoot{Root: root}
			return eachName(func(name string) any { f, _ := r.Get(name); return contentOf(f) })
		},
		"before": func() any {
			before := &work{root: root, parent: "x", files: files(), below: &work{root: root}}
			return eachName(func(name string) any {
				if name == "/data/file" { // the link itself was there
					return nil
				}
				hdr := directory(path.Dir(name)+"/bin", 0o755)
				listed, err := before.lower(path.Dir(name))
				return []any{!before.changed(&hdr), before.hides(name + "/../bin/sh"), before.unchanged(name), listed, err}
			})
		},
		"owners": func() any {
			return setOwners(root, []fileOwner{{"abs/secret", 7, 7, false}, {"dots/bin", 7, 7, false}, {"../host/secret", 7, 7, false}, {"etc", 7, 7, false}})
		},
		"given":   func() any { return (&Container{wk: wk, req: &worker.Request{UID: 4711}}).giveTree(hostNames) },
		"account": func() any { return (&Container{wk: wk, req: &worker.Request{UID: 4711}}).addAccount() },
		"write":   func() any { return writeContextFilesIn(root) },
		"upperscan": func() any {
			tree := &layer.Tree{}
			return []any{(&work{root: root, closed: true}).scanUpper(root, tree), namesIn(t, tree)}
		},
	} {
		before := hosttest.State(t, host)
		got := fmt.Sprintf("%+v", f())
		if strings.Contains(got, hosttest.Text) || strings.Contains(got, "true") || strings.Contains(got, "Name:libelf") {
			t.Errorf("%s found what is of the host: %.300q", what, got)
		}
		if what == "shell" && got != "[]" {
			t.Errorf("%s: %s", what, got)
		}
		if hosttest.State(t, host) != before {
			t.Errorf("%s changed files of the host; it said %.300q", what, got)
		}
	}
}

// hostNamesAsLayer has files of the names that the root's links to the host lead
// to, and that belong to another user, as the layer of an image may have.
func hostNamesAsLayer(t *testing.T, host string) *rootfs.Root {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"/abs/secret", "/dots/bin/sh", "/data/file/x"} {
		hosttest.Write(t, dir+name, "")
		_ = errors.Join(os.Chown(dir+name, 4711, 4711), os.Chown(host+"/secret", 4711, 0)) // only root can
	}
	return openRoot(t, dir)
}

// copied are the names and contents that a copy from a stage adds.
func copied(t *testing.T, view *rootView, files *layerFiles, sources ...string) (all []any) {
	t.Helper()
	defer files.close()
	for _, source := range sources {
		tree := &layer.Tree{}
		s := &stageCopier{copier: &copier{tree: tree, to: "/out", intoDir: true, mode: buildcontext.KeptMode}, Selection: buildcontext.Selection{Root: view.Root}, files: files}
		if err := s.copy(source); err != nil {
			continue
		}
		all = append(all, namesIn(t, tree))
	}
	return all
}

// namesIn are the entries of a tree with their contents; links only have their
// names, because their targets are the host's here.
func namesIn(t *testing.T, tree *layer.Tree) (all []string) {
	t.Helper()
	pr, pw := io.Pipe()
	go func() {
		_, err := tree.Encode(pw, layer.Options{})
		_ = pw.CloseWithError(err)
	}()
	for tr := tar.NewReader(pr); ; {
		hdr, err := tr.Next()
		if err != nil {
			return append(all, fmt.Sprint(err))
		}
		data, err := io.ReadAll(tr)
		if hdr.Typeflag == tar.TypeReg {
			all = append(all, hdr.Name, string(data), fmt.Sprint(err))
		}
	}
}

func contentOf(f io.ReadCloser) string {
	if f == nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(f) // what was read counts
	return string(data)
}

func layerFilesFind(l *layerFiles, name string) any {
	defer l.close()
	if name == "/data/file" { // a link that is there
		return nil
	}
	_, info, found := l.holder(name)
	f, err := l.find(name)
	return []any{info, found, f != nil, err}
}

// contextOf is a build context with a directory and a link.
func contextOf() (*buildcontext.Source, error) {
	dir, err := os.MkdirTemp("", "context-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("/x", filepath.Join(dir, "link"))); err != nil {
		return nil, err
	}
	return buildcontext.Read(buildcontext.Options{Dir: dir, Known: cache.OpenContents(dir, dir)}, []string{"."})
}

// writeContextFilesIn writes what a spack step writes of the context, where the
// image has links.
func writeContextFilesIn(root *rootfs.Root) error {
	source, err := contextOf()
	if err != nil {
		return err
	}
	files := &contextFiles{source, root.HostPath()}
	for _, target := range []string{"repos/1", "new", strings.Repeat("../", 40) + strings.TrimPrefix(filepath.Dir(root.HostPath()), "/") + "/host/evil"} {
		if err := files.Write(root, path.Join("/opt/env", target)); err != nil {
			return err
		}
	}
	return nil
}

// The log of a package is in the build's log directory, whatever its version is.
func TestLogPath(t *testing.T) {
	x := &stepRun{stage: &recipe.Stage{Name: "s"}, n: 3, run: &run{logDir: "/log", secrets: secret.NewSet(nil, nil)}}
	if got := x.logPath("pkg-1/../../../etc/evil"); got != "/log/s-03-pkg-1-..-..-..-etc-evil.log" {
		t.Errorf("the log is %s", got)
	}
}
