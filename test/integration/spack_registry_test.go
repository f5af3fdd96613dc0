//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
	"github.com/pdidev/pdibuild/test/spackdouble"
)

// mirror makes the environment's only mirror the one of a registry.
func (p *project) mirror(address string) {
	p.write("spack.yaml", fmt.Sprintf("spack:\n  view: true\n  specs: [app]\n  mirrors:\n    far: {url: \"oci+http://%s/cache\", access_pair: {id_variable: OCI_USER, secret_variable: OCI_PASSWORD}}\n", address))
}

const pushToMirror = ", buildcache: {push: [far], username: mirror_user, password: mirror_password}"

func newMirrorProject(t *testing.T, f *registry.Front) *project {
	t.Helper()
	p := newSpackProject(t, "", pushToMirror, "true")
	p.recipe(strings.Replace(strings.NewReplacer("STEP", pushToMirror, "PREPARE", "true").Replace(spackRecipe),
		"secrets:\n", "secrets:\n  mirror_user: {env: USER_OF_THE_MIRROR, optional: true, public: true}\n", 1))
	p.mirror(f.Address)
	return p
}

// again builds with a Spack that has changed in nothing but its text.
func (p *project) again(args ...string) outcome {
	p.t.Helper()
	p.write("spack-double", p.read("spack-double")+"# again\n")
	return p.build(args...)
}

// A whole build with a registry that gives tokens: packages are pushed with the
// secrets, and pulled by everybody.
func TestSpackRegistryWithTokens(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{User: "hpc", Password: "a secret pass"})
	p := newMirrorProject(t, f)
	p.env = []string{"USER_OF_THE_MIRROR=hpc", "SECRET_OF_THE_MIRROR=a secret pass"}
	first := p.build("-v").ok()
	first.says("far: 3 packages pushed")
	emptyBuildcache(t, p)
	p.env = nil
	f.Asked()
	second := p.again("-v").ok()
	wantFromCache(t, second, map[string]bool{"base": true, "app": true})
	if second.ImageID != first.ImageID {
		t.Errorf("with packages of the registry it is %s, with compiled ones %s", second.ImageID, first.ImageID)
	}
	if strings.Count(second.stderr, "warning: binary cache") != 1 || !strings.Contains(second.stderr, `secret "mirror_password" was not given`) {
		t.Errorf("without credentials there is one warning, about the push:\n%s", second.stderr)
	}
	for _, r := range f.Asked() {
		if strings.HasPrefix(r, "PUT") || strings.HasPrefix(r, "POST") {
			t.Errorf("without credentials, it was tried to push: %s", r)
		}
	}
}

// Packages of the environment can be pulled as an image, by the tag that the
// step names: at once or, when the registry refuses, later.
func TestSpackRegistryTag(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{})
	p := newMirrorProject(t, f)
	p.recipe(strings.ReplaceAll(p.read("pdibuild.yaml"), "push: [far]", "push: [far], tag: latest"))
	p.env = []string{"USER_OF_THE_MIRROR=hpc", "SECRET_OF_THE_MIRROR=a secret pass"}
	f.Refuse(refuseLastWrites)
	p.build("-v").ok().says("nothing is lost", "pdibuild push --buildcache")
	f.Refuse(nil)
	if o := p.run("push", "--storage-root", p.store, "--buildcache"); o.code != 0 || !strings.Contains(o.stderr, "has the tag latest") {
		t.Errorf("there is no image of the packages: %d\n%s", o.code, o.stderr)
	}
	image := "docker://" + f.Address + "/cache:latest"
	checkTag := func() {
		t.Helper()
		config := judge(t, "skopeo", "inspect", "--tls-verify=false", "--config", image)
		if want := `"PATH=/opt/software/linux/app-1.0-` + p.appHash() + "/bin:/bin:/usr/bin"; !strings.Contains(config, want) {
			t.Errorf("its configuration lacks %s:\n%s", want, config)
		}
		if got := strings.Count(config, "sha256:"); got != 2 {
			t.Errorf("it has %d layers, want those of base and app:\n%s", got, config)
		}
	}
	checkTag()
	judge(t, "skopeo", "delete", "--tls-verify=false", image)
	p.again("-v").ok().says("far: 0 packages pushed", "far: an image of the packages has the tag latest")
	checkTag()

	p.write("spack.yaml", "spack: {view: true, specs: [app], mirrors: {far: {url: /somewhere}}}\n")
	p.build().fails(3, "only a binary cache in a container registry", "leave out tag:")
}

// Whatever a registry says, the build succeeds with one warning per direction,
// and what could not be pushed is sent later.
func TestSpackRegistryInTrouble(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{})
	for name, c := range map[string]struct {
		refuse func(*http.Request) int
		says   string
		pulls  bool // pulling is not in trouble
	}{
		"401":             {func(*http.Request) int { return http.StatusUnauthorized }, "log", false},
		"403":             {func(*http.Request) int { return http.StatusForbidden }, "403", false},
		"read only":       {refuseWrites, "405", true},
		"cut off uploads": {refuseLastWrites, "403", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newMirrorProject(t, f)
			p.env = []string{"USER_OF_THE_MIRROR=hpc", "SECRET_OF_THE_MIRROR=wrong"}
			f.Refuse(c.refuse)
			defer f.Refuse(nil)
			o := p.build("-v").ok()
			want := 2
			if c.pulls {
				want = 1
			}
			if got := strings.Count(o.stderr, "warning: binary cache"); got != want {
				t.Errorf("there are %d warnings, want %d:\n%s", got, want, o.stderr)
			}
			o.says(c.says, "pdibuild push --buildcache")
			p.run("push", "--storage-root", p.store, "--buildcache").fails(7, f.Address)
			f.Refuse(nil)
			if o := p.run("push", "--storage-root", p.store, "--buildcache"); o.code != 0 {
				t.Errorf("what could not be pushed is not sent later: %d\n%s", o.code, o.stderr)
			}
			emptyBuildcache(t, p)
			wantFromCache(t, p.again().ok(), map[string]bool{"base": true, "app": true})
			clearCache(t, f)
		})
	}
}

// A registry that wants fewer requests makes the build slower, which is said
// once; one that wants none for hours is gone on without.
func TestSpackRegistryWantsFewerRequests(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{RetryAfter: "1"})
	p := newMirrorProject(t, f)
	p.env = []string{"USER_OF_THE_MIRROR=hpc", "SECRET_OF_THE_MIRROR=a secret pass"}
	first := p.build().ok()
	emptyBuildcache(t, p)
	left := 4
	f.Refuse(func(*http.Request) int {
		if left--; left < 0 {
			return 0
		}
		return http.StatusTooManyRequests
	})
	o := p.again().ok()
	wantFromCache(t, o, map[string]bool{"base": true, "app": true})
	if o.ImageID != first.ImageID {
		t.Errorf("it is another image: %s, before %s", o.ImageID, first.ImageID)
	}
	if got := strings.Count(o.stderr, "warning: "); got != 1 {
		t.Errorf("there are %d warnings, want one:\n%s", got, o.stderr)
	}
	o.says("makes the build slower", "429 Too Many Requests", "asks to wait 1s")

	closed := registry.StartFront(t, registry.FrontOptions{RetryAfter: "7200"})
	q := newMirrorProject(t, closed)
	q.env = p.env
	closed.Refuse(func(*http.Request) int { return http.StatusTooManyRequests })
	o = q.build().ok()
	o.says("asks to come back in 2h0m0s", "the build goes on without it", "pdibuild push --buildcache")
	if got := strings.Count(o.stderr, "warning: binary cache"); got != 2 {
		t.Errorf("there are %d warnings, want one for each direction:\n%s", got, o.stderr)
	}
}

func refuseWrites(r *http.Request) int {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return 0
	}
	return http.StatusMethodNotAllowed
}

// refuseLastWrites lets blobs in and no manifest: the packages are half there.
func refuseLastWrites(r *http.Request) int {
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
		return http.StatusForbidden
	}
	return 0
}

// clearCache deletes all tags of the registry's cache.
func clearCache(t *testing.T, f *registry.Front) {
	t.Helper()
	for _, tag := range strings.Fields(judge(t, "skopeo", "list-tags", "--tls-verify=false", "docker://"+f.Address+"/cache")) {
		if tag = strings.Trim(tag, `",`); strings.HasSuffix(tag, ".spack") {
			judge(t, "skopeo", "delete", "--tls-verify=false", "docker://"+f.Address+"/cache:"+tag)
		}
	}
}

// An index that is half written costs time, no build: the packages are found
// without it.
func TestSpackHalfWrittenIndex(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{})
	p := newMirrorProject(t, f)
	p.env = []string{"USER_OF_THE_MIRROR=hpc", "SECRET_OF_THE_MIRROR=x"}
	p.build().ok()
	putIndex(t, f.Address, `{"database":{"version":"8","inst`)
	emptyBuildcache(t, p)
	o := p.again("-v").ok()
	if strings.Count(o.stderr, "pdibuild: warning: ") > 1 {
		t.Errorf("there is more than one warning:\n%s", o.stderr)
	}
	wantFromCache(t, o, map[string]bool{"base": true, "app": true})
}

// putIndex replaces the index of the registry's cache.
func putIndex(t *testing.T, address, content string) {
	t.Helper()
	put := func(method, url, mediaType, body string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", mediaType)
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode >= 300 {
			t.Fatalf("%s %s: %v %v", method, url, answer, err)
		}
		_ = answer.Body.Close()
		return answer
	}
	base := "http://" + address + "/v2/cache"
	entry := func(mediaType, body string) string {
		digest := "sha256:" + sha256Hex(body)
		place := put("POST", base+"/blobs/uploads/", "", "").Header.Get("Location")
		put("PUT", place+"&digest="+digest, "application/octet-stream", body)
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest, len(body))
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	put("PUT", base+"/manifests/index.spack", manifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, manifest,
		entry("application/vnd.oci.image.config.v1+json", "{}"), entry("application/vnd.oci.image.layer.v1.tar+gzip", content)))
}

// Two builds at once share the binary cache: each finds whole packages, and the
// third has nothing to build.
func TestSpackBuildsShareTheCache(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	p.write("spack.yaml", "spack: {view: true, specs: [app]}\n")
	q := newProject(t, strings.NewReplacer("STEP", "", "PREPARE", "true").Replace(spackRecipe)+"    labels: {second: \"yes\"}\n")
	q.write("spack-double", spackdouble.Script+"# "+p.nonce+"2\n")
	q.write("spack.yaml", "spack: {view: true, specs: [app]} # q\n")
	first, second := p.command(p.buildArgs()...), q.command(q.buildArgs()...)
	for _, cmd := range []*exec.Cmd{first, second} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []*exec.Cmd{first, second} {
		if err := cmd.Wait(); err != nil {
			t.Errorf("a build beside another one: %v", err)
		}
	}
	wantFromCache(t, p.again().ok(), map[string]bool{"base": true, "tool": true, "app": true})
}

// A spack.lock that fits is used; what does not fit is concretized anew, with a
// warning; fresh is said to Spack.
func TestSpackLock(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", ", concretize: fresh", "true")
	p.write("spack.yaml", "spack: {view: true, specs: [app]}\n")
	p.build("--write-lock").ok().says("Concretized 1 spec (concretize --fresh)")
	p.again().ok().says("No new specs to concretize")
	const other = "{\"_meta\":{\"file-type\":\"spack-lockfile\",\"lockfile-version\":5,\"specfile-version\":4},\"roots\":[],\"concrete_specs\":{}}"
	p.write("spack.lock", other)
	o := p.build().ok()
	o.says("the spack.lock beside the environment does not fit it any more", "Concretized 1 spec")
	if strings.Count(o.stderr, "does not fit") != 1 {
		t.Errorf("it is said more than once:\n%s", o.stderr)
	}
	if p.read("spack.lock") != other {
		t.Error("spack.lock was changed, without --write-lock")
	}
	p.write("spack.lock", "{\"_meta\":")
	p.build().fails(3, "spack.lock")
}

// The next build knows how long the packages have taken.
func TestSpackEstimate(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "slow 3", "", "true")
	o := p.build("--progress", "json").ok()
	o.says(`"text":"building app@1.0"`, `"building":["app@1.0"]`, `"from_cache":0,"built":3`)
	if regexp.MustCompile(`"remaining_ns":[1-9]`).MatchString(o.stderr) {
		t.Errorf("there is an estimate before anything was built:\n%s", o.stderr)
	}
	if out, err := inNamespace(exec.Command("rm", "-rf", p.store+"/pdibuild/cache/spack/buildcache")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o = p.again().ok()
	if !regexp.MustCompile(`packages 0/3: building base@1.0; about [3-9]s left`).MatchString(o.stderr) {
		t.Errorf("the second build does not know how long it takes:\n%s", o.stderr)
	}
}

// An image whose packages are in another repository of the registry is pushed
// without them: the registry is told where it has them.
func TestPushMountsPackages(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{})
	p := newSpackProject(t, "", "", "true")
	p.write("spack.yaml", "spack: {view: true, specs: [app]}\n")
	first := p.build("-t", f.Address+"/one/image:1", "--push", "--tls-verify=false").ok()
	f.Asked()
	p.recipe(strings.NewReplacer("STEP", "", "PREPARE", "true").Replace(spackRecipe) + "    labels: {another: \"image\"}\n")
	second := p.build("-t", f.Address+"/two/images/more:1", "--push", "--tls-verify=false").ok()
	if first.ImageID == second.ImageID || first.Layers != second.Layers {
		t.Fatalf("the images are %s with %d layers and %s with %d", first.ImageID, first.Layers, second.ImageID, second.Layers)
	}
	asked := f.Asked()
	mounted, uploaded := countBlobs(asked)
	// The configuration is new.
	if mounted != second.Layers || uploaded > 1 {
		t.Errorf("of %d layers, %d were mounted; %d blobs were uploaded:\n%s", second.Layers, mounted, uploaded, strings.Join(asked, "\n"))
	}
	judge(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+f.Address+"/two/images/more:1")
}

// countBlobs says how many blobs a registry was told to mount, and how many
// were sent to it in the way of the libraries.
func countBlobs(asked []string) (mounted, uploaded int) {
	for _, r := range asked {
		switch {
		case strings.HasPrefix(r, "POST") && strings.Contains(r, "mount="):
			mounted++
		case strings.HasPrefix(r, "PATCH"):
			uploaded++
		}
	}
	return mounted, uploaded
}
