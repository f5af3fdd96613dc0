package builder

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// hostText is in all files of the host.
const hostText = "of the host"

// imageBesideHost makes a root with links to a directory of the host, absolute
// and with many "..", at its top and as parts of paths that are looked for. The
// directory has what a function may look for.
func imageBesideHost(t *testing.T) (root *rootfs.Root, host string) {
	t.Helper()
	top := t.TempDir()
	host = top + "/host"
	for name, text := range map[string]string{
		"secret": "", "bin/sh": "", "etc/passwd": "app:x:7:7::/" + hostText + ":/\n", "lib/libhost.so.1": "", "ld/host.conf": "/" + hostText + "\n",
		"info/host.list": "/lib/libhost.so.1\n", ".spack-db/index.json": `{"database": {"version": "8", "installs": {}}, "` + hostText + `": 1`,
		"__spack_path_placeholder__/.spack-db/index.json": "{",
		"repos/x/packages/pkg/package.py":                 "class Pkg(Package):\n    license(\"" + hostText + "\")\n", "spack.yaml": "", "spack.lock": "",
		"strip-1": "", "captured": "", "build.log": "",
	} {
		if text == "" {
			text = hostText
		}
		write(t, filepath.Join(host, name), text)
	}
	library, err := os.ReadFile("/proc/self/exe") // any ELF file
	if err != nil {
		t.Fatal(err)
	}
	write(t, host+"/lib/libelf.so", string(library))
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
	write(t, image+"/conf", "include /data/*/ld/*.conf\ninclude abs/ld/*.conf\n")
	return openRoot(t, image), host
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// fingerprintOf tells whether anything in a directory has changed.
func fingerprintOf(t *testing.T, dir string) string {
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

// Whatever takes a name of an image sees and changes files of the image alone.
func TestNothingOfTheHost(t *testing.T) {
	root, host := imageBesideHost(t)
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
	in := &installation{Packages: []installedPackage{{Name: "pkg", Prefix: "/pkg"}, {Name: "abs", Prefix: "/abs"}}}
	for what, f := range map[string]func() any{
		"read": func() any { return eachName(func(name string) any { data, _ := view.read(name); return string(data) }) },
		"header": func() any {
			return eachName(func(name string) any { h, _ := view.header(path.Dir(name) + "/bin/sh"); return h })
		},
		"lookup": func() any { fields, _ := view.lookup("/etc/passwd", "app", 4); return fields },
		"copy": func() any {
			return copied(t, view, files(), "/abs", "/abs/*", "/d*/secret", "/data/*/secret", "/data/f*", "/data/file", "/data/abs/sec*", "/*/lib/*.so")
		},
		"kindOf":        func() any { return elfFiles(root, "/abs", "/dots/lib", "/pkg/lib64", "/abs/lib/libelf.so") },
		"linker":        func() any { return linkerFinds(root, in) },
		"linkable":      func() any { return chooseLinkable(root, []string{"/pkg/lib64/libelf.so", "/abs/lib/libelf.so"}) },
		"licence":       func() any { return licenseOf(view, in.Packages[0]) + licenseOf(view, in.Packages[1]) },
		"unpad":         func() any { return unpad(root, "/abs") },
		"prefixes":      func() any { return (&spackJob{wk: wk}).addPrefixes(map[string]string{}, "/abs") },
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
		"write":   func() any { return writeEnvironmentIn(root) },
		"lent":    func() any { return lent(t, root) },
		"upperscan": func() any {
			tree := &layer.Tree{}
			return []any{(&work{root: root, closed: true}).scanUpper(root, tree), namesIn(t, tree)}
		},
	} {
		before := fingerprintOf(t, host)
		got := fmt.Sprintf("%+v", f())
		if strings.Contains(got, hostText) || strings.Contains(got, "true") || strings.Contains(got, "Name:libelf") {
			t.Errorf("%s found what is of the host: %.300q", what, got)
		}
		if strings.Contains(what, "prefixes") && got != "<nil>" || what == "shell" && got != "[]" || what == "unpad" && got != "/abs" {
			t.Errorf("%s: %s", what, got)
		}
		if fingerprintOf(t, host) != before {
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
		write(t, dir+name, "")
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

func elfFiles(root *rootfs.Root, prefixes ...string) any {
	lists := map[elfKind][]string{}
	for _, prefix := range prefixes {
		_ = (&spackJob{wk: &work{root: root}}).sortByKind(prefix, lists) // one that is not there has none
	}
	return len(lists) > 0
}

func linkerFinds(root *rootfs.Root, in *installation) any {
	l := newLinker(root)
	l.readConf("/conf", 0)
	_ = l.addBundled(in) // a package that is not there has none
	l.places["libhost.so.1"] = "/lib/libhost.so.1"
	var places []string
	for _, n := range []need{{library: "libelf.so"}, {library: "/abs/lib/libelf.so"}, {library: "libelf.so", paths: []string{"$ORIGIN/../abs/lib", "/dots/lib"}}} {
		places = append(places, l.find("/data/x", n))
	}
	found := strings.Join(places, "") != "" || len(needsOf(root, "/abs/lib/libelf.so")) > 0 || len(l.versionsOf("/abs/lib/libelf.so")) > 0
	return []any{l.dirs, found, l.owner("libhost.so.1") != ""}
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

// writeEnvironmentIn writes what a spack step writes, where the image has links.
func writeEnvironmentIn(root *rootfs.Root) error {
	env, err := spack.ParseEnvironment("spack.yaml", []byte("spack: {specs: [zlib]}"))
	if err != nil {
		return err
	}
	j := &spackJob{
		stepRun: &stepRun{run: &run{plan: &Plan{Context: root.HostPath()}}}, wk: &work{root: root}, dir: "/opt/env",
		in: &spackInputs{env: env, lock: []byte("{}")}, step: recipe.SpackInstall{},
	}
	source, err := contextOf()
	if err != nil {
		return err
	}
	for _, target := range []string{"repos/1", "new", strings.Repeat("../", 40) + strings.TrimPrefix(filepath.Dir(root.HostPath()), "/") + "/host/evil"} {
		if err := (&spackFiles{target: target, source: source}).write(root.HostPath(), root, "/opt/env"); err != nil {
			return err
		}
	}
	return j.writeEnvironment()
}

// lent reads and writes where commands of a spack step may write.
func lent(t *testing.T, root *rootfs.Root) any {
	t.Helper()
	j := &spackJob{lent: root.HostPath(), stepRun: &stepRun{stage: &recipe.Stage{Name: "s"}, run: &run{logDir: t.TempDir(), secrets: secret.NewSet(nil, nil)}}}
	var data []byte
	err := j.inLent("out", func(out *rootfs.Root) (err error) {
		data, _ = out.ReadFile("captured")
		return out.WriteFile("strip-1", []byte("x"))
	})
	log := j.saveLog(spack.Failure{Log: spackLentStage + "/../abs/build.log"})
	return []any{string(data), err, log}
}

// The log of a package is in the build's log directory, whatever its version is.
func TestLogPath(t *testing.T) {
	x := &stepRun{stage: &recipe.Stage{Name: "s"}, n: 3, run: &run{logDir: "/log", secrets: secret.NewSet(nil, nil)}}
	if got := x.logPath("pkg-1/../../../etc/evil"); got != "/log/s-03-pkg-1-..-..-..-etc-evil.log" {
		t.Errorf("the log is %s", got)
	}
}
