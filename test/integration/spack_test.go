//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pdidev/pdibuild/test/spackdouble"
)

// These tests are about the flow of a spack step, with a test double of the
// spack command in the place of Spack: see test/spackdouble. The real one is for
// hack/test-spack.

const spackRecipe = `version: 1
name: localhost/spack-flow
secrets:
  mirror_password: {env: SECRET_OF_THE_MIRROR, optional: true}
stages:
  - name: builder
    from: BASE
    steps:
      - copy: spack-double
        to: /opt/spack/bin/spack
        mode: "0755"
      - spack: {environment: spack.yaml STEP}
      - run: . /opt/spack-environment/activate.sh && app && echo NONCE
  - name: final
    from: BASE
    steps:
      - run: PREPARE
      - environment: builder
      - user: {name: pdi, uid: 1001}
      - check: app
    entrypoint: activate
    cmd: [app]
`

// newSpackProject has an environment in a store of its own, with nothing in its
// binary cache. Step is added to the spack step, prepare is run in the final
// stage before it gets the environment.
func newSpackProject(t *testing.T, comment, step, prepare string) *project {
	t.Helper()
	p := newProject(t, strings.NewReplacer("STEP", step, "PREPARE", prepare).Replace(spackRecipe))
	p.installs(p)
	p.environment(comment)
	emptyBuildcache(t, p)
	return p
}

// installs makes the project's double install the packages of another
// project's, by their hashes.
func (p *project) installs(other *project) {
	p.t.Helper()
	hashes := strings.NewReplacer(spackdouble.App, other.appHash(), spackdouble.Base, other.ownHash(spackdouble.Base))
	p.write("spack-double", hashes.Replace(spackdouble.Script)+"# "+p.nonce+"\n")
}

func (p *project) appHash() string { return p.ownHash(spackdouble.App) }

// ownHash is a hash of the project's own, so that no other one knows layers of
// the package. Its first letters stay.
func (p *project) ownHash(hash string) string {
	own := strings.NewReplacer("0", "g", "1", "h", "8", "i", "9", "j").Replace(p.nonce)
	return hash[:len(hash)-len(own)] + own
}

func (p *project) environment(comment string) {
	p.write("spack.yaml", "spack: # "+comment+"\n  view: true\n  specs: [app]\n  mirrors:\n    far: {url: \"oci+http://127.0.0.1:9/none\", access_pair: {id_variable: OCI_USER, secret_variable: OCI_PASSWORD}}\n")
}

func emptyBuildcache(t *testing.T, p *project) {
	t.Helper()
	dir := filepath.Join(p.store, "pdibuild/cache/spack")
	if out, err := inNamespace(exec.Command("rm", "-rf", dir+"/buildcache", dir+"/pending", dir+"/times")).CombinedOutput(); err != nil {
		t.Fatalf("empty the binary cache: %v\n%s", err, out)
	}
}

func TestSpackEnvironment(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	img, o := p.export("--tag", "spack")
	o.says("the build goes on", "127.0.0.1:9")
	if strings.Count(o.stderr, "127.0.0.1:9/none") > 2 {
		t.Errorf("the unreachable mirror is reported again and again:\n%s", o.stderr)
	}
	files := img.files()
	prefix := "/opt/software/linux/app-1.0-" + p.appHash()
	for _, name := range []string{prefix + "/bin/app", prefix + "/.spack/spec.json", "/opt/views/view", "/opt/views/._view/one/bin/app", "/opt/spack-environment/spack.lock", "/entrypoint.sh", "/etc/profile.d/spack-environment.sh"} {
		if _, ok := files[name]; !ok {
			t.Errorf("the image lacks %s", name)
		}
	}
	if licenses := files["/opt/spack-environment/licenses.json"].content; !strings.Contains(licenses, `"`+p.appHash()+`": "MIT"`) {
		t.Errorf("licenses.json has %q", licenses)
	}
	for name, want := range map[string]int64{prefix + "/bin/app-elf": 0o755, prefix + "/lib/data": 0o644} {
		if got := files[name].Mode; got != want {
			t.Errorf("%s has the mode %o, not %o as in a binary cache", name, got, want)
		}
	}
	for name, e := range files {
		for _, bad := range []string{"/opt/spack/", "tooltool", "spack-build-out", ".spack-db", "pdibuild-spack", "spdx"} {
			if strings.Contains(name, bad) {
				t.Errorf("the image has %s", name)
			}
		}
		if strings.HasPrefix(name, "/opt/spack-environment/") && (strings.Contains(e.content, "mirror") || strings.Contains(e.content, "OCI_PASSWORD")) {
			t.Errorf("%s tells of mirrors:\n%s", name, e.content)
		}
	}
	if _, ok := files["/opt/views/._view/one/bin/tool"]; ok {
		t.Error("the view has a link to a package that does not come along")
	}
	if env := img.config.Config.Env; !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=/opt/views/view/bin:/") }) ||
		!slices.Contains(env, "APP_HOME="+prefix) || slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "SPACK_ENV") }) {
		t.Errorf("the image's environment is %q", env)
	}
	if got := img.config.Config.Entrypoint; !slices.Equal(got, []string{"/entrypoint.sh"}) {
		t.Errorf("the entrypoint is %q", got)
	}
	if n := len(img.config.RootFS.DiffIDs); n < 4 {
		t.Errorf("the image has %d layers: packages have none of their own", n)
	}
	if out := p.run("run", "--storage-root", p.store, "localhost/spack-flow:spack"); out.stdout != "app runs\n" {
		t.Errorf("the image runs: %d %q %s", out.code, out.stdout, out.stderr)
	}
	again := p.build("--write-lock").ok()
	if lock := p.read("spack.lock"); !strings.Contains(lock, `"spec":"app"`) {
		t.Errorf("--write-lock has written %q", lock)
	}
	if err := os.Remove(filepath.Join(p.dir, "spack.lock")); err != nil {
		t.Fatal(err)
	}
	again.wantSteps(o.Cached+o.Executed, 0)
	if again.ImageID != o.ImageID {
		t.Errorf("the second build made %s, the first %s", again.ImageID, o.ImageID)
	}
	// Packages from the binary cache are the same files as compiled ones, also
	// where no layer of them is known any more.
	if rm := p.run("rm", "--storage-root", p.store, o.ImageID); rm.code != 0 {
		t.Fatal(rm.stderr)
	}
	fromCache := p.again("-v").ok()
	fromCache.says("of which 0 are known")
	if fromCache.ImageID != o.ImageID {
		t.Errorf("with packages from the binary cache it is %s, with compiled ones %s", fromCache.ImageID, o.ImageID)
	} else {
		fromCache.says("app@1.0 fetching from build cache", "relocating")
	}
}

// Spack's hash says what a package is: a layer of packages that have not
// changed is taken over, and nobody reads the packages to make it.
func TestUnchangedPackagesAreNotRead(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	img, first := p.export("-v")
	first.says("packages in 2 layers, of which 0 are known")
	// An app with other content under the same hash: whoever reads it can tell.
	p.write("spack-double", strings.Replace(p.read("spack-double"), "echo %s runs", "echo %s is read", 1))
	emptyBuildcache(t, p)
	p.environment("another one")
	again, o := p.export("-v")
	if o.Executed == 0 {
		t.Error("nothing was built")
	}
	file := "/opt/software/linux/app-1.0-" + p.appHash() + "/bin/app"
	driver := driverOf(t, p.store)
	if driver != "overlay" {
		t.Skipf("SKIPPED: layers are taken over in overlay stores, and this is one of %s", driver)
	}
	o.says("packages in 2 layers, of which 2 are known")
	if got, want := again.file(file).content, img.file(file).content; got != want {
		t.Errorf("the package was read again: it is %q, want %q", got, want)
	}
	for name, e := range img.files() {
		if strings.HasPrefix(name, "/opt/software") && (again.file(name).sum != e.sum || again.file(name).Mode != e.Mode || again.file(name).Uid != e.Uid || !again.file(name).ModTime.Equal(e.ModTime)) {
			t.Errorf("%s is another file in the second image", name)
		}
	}
	if out := p.run("cache", "verify", "--storage-root", p.store); out.code != 0 {
		t.Errorf("the layers that were taken over are not what they should be: %s%s", out.stdout, out.stderr)
	}
}

// driverOf is the storage driver of a store.
func driverOf(t *testing.T, store string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(store, "*-layers"))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v", store, err)
	}
	return strings.TrimSuffix(filepath.Base(found[0]), "-layers")
}

func TestSpackFailureIsResumed(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "broken", "", "true")
	o := p.build().fails(4, `stage "builder"`, "app@1.0/appappa failed in phase install", "error: it is broken", "pdibuild shell --failed", "run the same command again")
	log := o.stderr[strings.Index(o.stderr, "all of its output: ")+len("all of its output: "):]
	if data, err := os.ReadFile(strings.SplitN(log, "\n", 2)[0]); err != nil || !strings.Contains(string(data), "the whole log of app") {
		t.Errorf("the log that the error names: %v, %q", err, data)
	}
	if in := p.run("shell", "--storage-root", p.store, "--failed", p.dir, "--", "pwd"); !strings.Contains(in.stdout, "spack-stage-app-1.0-") {
		t.Errorf("shell --failed does not stand in the build directory: %q %s", in.stdout, in.stderr)
	}
	p.environment("mended")
	o = p.build().ok()
	wantFromCache(t, o, map[string]bool{"base": true, "tool": true, "app": false})
}

// After a kill -9 in the middle of a package, only what was not finished is
// built.
func TestSpackKilled(t *testing.T) {
	t.Parallel()
	seconds := ownSeconds()
	p := newSpackProject(t, "slow "+seconds, "", "true")
	cmd := p.command(p.buildArgs()...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the package is being built", func() bool { return sleeping(seconds) == 1 })
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the step's processes are gone", func() bool { return sleeping(seconds) == 0 })
	p.environment("fast")
	wantFromCache(t, p.build().ok(), map[string]bool{"base": true, "tool": true, "app": false})
	noWorkIsLeft(t, p.store)
}

// wantFromCache compares which packages came from the binary cache.
func wantFromCache(t *testing.T, o outcome, want map[string]bool) {
	t.Helper()
	for name, cached := range want {
		if got := strings.Contains(o.stderr, name+"@1.0 relocating"); got != cached {
			t.Errorf("%s from the binary cache: %v, want %v\n%s", name, got, cached, o.stderr)
		}
		if got := strings.Contains(o.stderr, name+"@1.0 install"); got == cached {
			t.Errorf("%s built: %v, want %v", name, got, !cached)
		}
	}
}

// The build never sees the mirror's credential, whoever gives it.
func TestSpackCredentialStaysOutside(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", ", buildcache: {push: [far], password: mirror_password}", "true")
	p.env = []string{"SECRET_OF_THE_MIRROR=not-for-the-build-" + p.nonce}
	o := p.build().ok()
	o.says("pdibuild push --buildcache")
	if strings.Contains(o.stderr, "not-for-the-build") {
		t.Error("the output has the credential")
	}
	found, _ := inNamespace(exec.Command("grep", "-rl", "not-for-the-build-"+p.nonce, p.store)).Output()
	if len(found) > 0 {
		t.Errorf("the credential is in %s", found)
	}
	p.run("push", "--storage-root", p.store, "--buildcache").fails(7, "127.0.0.1:9")
}

func TestSpackCacheRequired(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", ", buildcache: {required: true}", "true")
	p.build().fails(7, "127.0.0.1:9", "required")
}

// A library that the builder has and the final image lacks is found before
// the image is written.
func TestEnvironmentLacksLibrary(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "rm -f /lib/*/libselinux.so.1 /usr/lib/*/libselinux.so.1")
	p.build().fails(4, "libselinux.so.1", "needed by base-elf and 1 more", "in package libselinux1", "apt-get install")
}

// Wrong environments are found before anything is done, with file and line.
func TestSpackWrongInput(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	for name, c := range map[string]struct{ content, says string }{
		"no YAML":  {"spack: [\n", "spack.yaml:"},
		"no spack": {"specs: []\n", "spack.yaml:"},
		"a typo":   {"spack:\n  specs: [app]\n  container: {imagse: {}}\n", "spack.yaml:3"},
	} {
		t.Run(name, func(t *testing.T) {
			p.write("spack.yaml", c.content)
			p.build().fails(3, c.says)
		})
	}
	if err := os.Remove(filepath.Join(p.dir, "spack.yaml")); err != nil {
		t.Fatal(err)
	}
	p.build().fails(3, "spack.yaml")
	p.environment("")
	p.recipe("version: 1\nstages:\n  - name: b\n    from: BASE\n    steps:\n      - spack: {environment: spack.yaml}\n")
	p.build().fails(3, "the image has no Spack", "spack: {path: DIRECTORY}")
}
