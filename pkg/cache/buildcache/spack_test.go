package buildcache

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// A realSpack is a real Spack with a configuration, caches and an install tree of
// its own.
type realSpack struct {
	t         *testing.T
	dir, tree string
	authority string // a file
}

func newSpack(t *testing.T, authority string) *realSpack {
	t.Helper()
	return spackWithTree(t, authority, "tree")
}

// newMaker is a Spack whose tree has a longer path than others': programs made
// in it have room for those.
func newMaker(t *testing.T, authority string) *realSpack {
	t.Helper()
	return spackWithTree(t, authority, "a-tree-"+strings.Repeat("with-a-long-name-", 8))
}

func spackWithTree(t *testing.T, authority, tree string) *realSpack {
	t.Helper()
	if os.Getenv("SPACK_ROOT") == "" {
		t.Skip("SKIPPED: SPACK_ROOT names no Spack, so nothing is compared with the real one")
	}
	s := &realSpack{t: t, dir: t.TempDir(), authority: authority}
	s.tree = filepath.Join(s.dir, tree)
	repo, err := filepath.Abs("testdata/spack/spack_repo/pdib")
	must(t, err)
	writeFile(t, filepath.Join(s.dir, "user/config.yaml"), []byte("config: {install_tree: {root: '"+s.tree+"'}, build_stage: ['"+s.dir+"/stage'], source_cache: '"+s.dir+"/sources', misc_cache: '"+s.dir+"/misc'}\n"))
	writeFile(t, filepath.Join(s.dir, "user/repos.yaml"), []byte("repos: {pdib: '"+repo+"'}\n"))
	s.shareWhatIsKnownOfPackages()
	return s
}

// knownOfPackages is where the Spacks of all tests keep what they have found out
// about the packages that there are: each of them would take half a minute for
// it. What they know of mirrors is not there.
var knownOfPackages = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "pdibuild-test-spack-") })

func (s *realSpack) shareWhatIsKnownOfPackages() {
	shared, err := knownOfPackages()
	must(s.t, err)
	must(s.t, os.MkdirAll(filepath.Join(s.dir, "misc"), 0o755))
	for _, name := range []string{"providers", "tags", "patches"} {
		must(s.t, os.MkdirAll(filepath.Join(shared, name), 0o755))
		must(s.t, os.Symlink(filepath.Join(shared, name), filepath.Join(s.dir, "misc", name)))
	}
}

// forgetPackages removes what the Spacks of all tests have shared.
func forgetPackages() {
	if shared, err := knownOfPackages(); err == nil {
		_ = os.RemoveAll(shared)
	}
}

// run runs Spack and returns its standard output.
func (s *realSpack) run(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(os.Getenv("SPACK_ROOT"), "bin/spack"), args...)
	cmd.Env = append(os.Environ(), "SPACK_USER_CONFIG_PATH="+s.dir+"/user", "SPACK_USER_CACHE_PATH="+s.dir+"/cache", "SSL_CERT_FILE="+s.authority)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("spack %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	s.t.Logf("spack %s\n%s%s", strings.Join(args, " "), out, stderr.String())
	return string(out)
}

// What we write, the real Spack installs from; what it writes, we read. The
// registry has to speak TLS: Spack does not look for an index at oci+http.
func TestRealSpack(t *testing.T) {
	addr, authority := withTLS(t, registry.Start(t, registry.Options{}))
	maker := newMaker(t, authority)
	made := map[string]string{"directory": "file://" + t.TempDir() + "/made", "registry": "oci://" + addr + "/made"}
	maker.run("install", "pdib-app")
	hash := strings.TrimSpace(maker.run("find", "--format", "{hash}", "pdib-app"))
	for _, address := range made {
		maker.run("buildcache", "push", "--unsigned", "--with-build-dependencies", "--update-index", "--tag", "spacks", address, "pdib-app")
	}
	t.Run("the image of a tag is Spack's", func(t *testing.T) {
		c := trusting(t, made["registry"], authority)
		must(t, c.Tag(t.Context(), "ours", Image{Roots: []string{hash}}))
		theirs, theirLayers := tagged(t, c, "spacks")
		ours, ourLayers := tagged(t, c, "ours")
		if len(ourLayers) == 0 || !slices.Equal(ourLayers, theirLayers) || !slices.Equal(ours.RootFS.DiffIDs, theirs.RootFS.DiffIDs) || ours.Architecture != theirs.Architecture {
			t.Errorf("ours has the layers %s and %+v, Spack's %s and %+v", ourLayers, ours, theirLayers, theirs)
		}
	})
	for name, address := range made {
		t.Run("read Spack's "+name, func(t *testing.T) { checkMade(t, trusting(t, address, authority), hash) })
	}
	// Each of ours is made from one of Spack's, of the same and another kind.
	for name, way := range map[string][2]string{
		"directory":             {made["registry"], "file://" + t.TempDir() + "/ours"},
		"registry":              {made["directory"], "oci://" + addr + "/ours"},
		"copy of its registry":  {made["registry"], "oci://" + addr + "/mounted"},
		"copy of its directory": {made["directory"], "file://" + t.TempDir() + "/copy"},
	} {
		t.Run("Spack installs from our "+name, func(t *testing.T) {
			src, dst := trusting(t, way[0], authority), trusting(t, way[1], authority)
			t.Logf("%+v", copyAll(t, src, dst, CopyOptions{}))
			checkMade(t, dst, hash)
			installFrom(t, way[1], authority, hash)
		})
	}
}

// withTLS puts a server with a certificate of its own before another one.
func withTLS(t *testing.T, addr string) (tlsAddr, authority string) {
	t.Helper()
	server := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(server.Close)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return server.Listener.Addr().String(), authority
}

// trusting opens a cache behind withTLS.
func trusting(t *testing.T, address, authority string) *Cache {
	t.Helper()
	opt := options()
	opt.CAFile = authority
	c, err := Open(t.Context(), address, opt)
	must(t, err)
	return c
}

// checkMade checks a cache of the packages in testdata.
func checkMade(t *testing.T, c *Cache, hash string) {
	t.Helper()
	packages, err := c.List(t.Context(), ListOptions{})
	must(t, err)
	var names []string
	for _, p := range packages {
		names = append(names, p.Name+"@"+p.Version)
		if p.Size == 0 || p.Date.IsZero() {
			t.Errorf("%s has size %d and date %s", p.String(), p.Size, p.Date)
		}
	}
	if got, want := strings.Join(names, " "), "pdib-app@1.2 pdib-leaf@1.2 pdib-lib@1.2 pdib-tool@1.2"; got != want {
		t.Errorf("List returns %s, want %s", got, want)
	}
	info, err := c.Info(t.Context(), hash)
	must(t, err)
	if !info.Indexed || len(info.Missing) != 0 {
		t.Errorf("Info returns %+v", info)
	}
	report, err := c.Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if len(report.Findings) != 0 || report.Packages != 4 {
		t.Errorf("Verify returns %+v", report)
	}
}

// installFrom lets another Spack install from a cache alone.
func installFrom(t *testing.T, address, authority, hash string) *realSpack {
	t.Helper()
	user := newSpack(t, authority)
	user.run("mirror", "add", "--unsigned", "--type", "binary", "ours", address)
	list := user.run("buildcache", "list", "--allarch", "--very-long")
	for _, name := range []string{"pdib-app@1.2", "pdib-leaf@1.2", "pdib-lib@1.2", "pdib-tool@1.2", hash} {
		if !strings.Contains(list, name) {
			t.Errorf("Spack does not see %s in our index:\n%s", name, list)
		}
	}
	user.run("install", "--cache-only", "--no-check-signature", "/"+hash)
	prefix := strings.TrimSpace(user.run("find", "--format", "{prefix}", "pdib-app"))
	text, err := os.ReadFile(filepath.Join(prefix, "share/pdib-app"))
	must(t, err)
	if got, want := string(text), "prefix="+prefix+"\n"; got != want || !strings.HasPrefix(prefix, user.tree) {
		t.Errorf("the file in pdib-app says %q, want %q below %s", got, want, user.tree)
	}
	return user
}

// Spec files of Spack before 1.0 need another form in an index, or Spack refuses
// all of it.
func TestRealSpackReadsAnIndexOfOldSpecs(t *testing.T) {
	user := newSpack(t, "")
	dir := filepath.Join(t.TempDir(), "new")
	copyAll(t, open(t, newV2(t, stored()...)), open(t, dir), CopyOptions{})
	copyAll(t, open(t, newV3(t, "ninja")), open(t, dir), CopyOptions{})
	user.run("mirror", "add", "--unsigned", "--type", "binary", "ours", "file://"+dir)
	list := user.run("buildcache", "list", "--allarch", "--very-long")
	for _, name := range stored() {
		p := world()[name]
		if want := p.hash() + " " + p.name + "@"; !strings.Contains(list, want) {
			t.Errorf("Spack does not see %q", want)
		}
	}
}
