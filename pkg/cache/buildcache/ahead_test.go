package buildcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// How long the real Spack takes to install packages from a registry by itself,
// and from a directory into which they were copied before: what could be won by
// copying while it installs is the shorter of copying and installing. It is a
// measurement, for which a variable asks:
//
//	PDIBUILD_AHEAD=40 go test -run FetchAhead -v ./pkg/cache/buildcache
func TestFetchAhead(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("PDIBUILD_AHEAD"))
	if err != nil {
		t.Skip("PDIBUILD_AHEAD is no number of packages: this is a measurement")
	}
	const size = 1 << 20
	repo := manyRecipes(t, n, size)
	withRepo := func(s *realSpack) *realSpack {
		writeFile(t, filepath.Join(s.dir, "user/repos.yaml"), []byte("repos: {many: '"+repo+"'}\n"))
		return s
	}
	addr := registry.Start(t, registry.Options{})
	fast, authority := withTLS(t, addr)
	maker := withRepo(newMaker(t, authority))
	maker.run("install", "many-all")
	hash := strings.TrimSpace(maker.run("find", "--format", "{hash}", "many-all"))
	push(t, trusting(t, "oci://"+fast+"/site/cache", authority), maker.tree, nil)
	far, farAuthority := withTLS(t, behindALine(t, addr, 30*time.Millisecond, 20<<20))
	for _, line := range []struct{ name, host, authority string }{{"this machine", fast, authority}, {"30 ms and 20 MiB/s away", far, farAuthority}} {
		address := "oci://" + line.host + "/site/cache"
		install := func(from string) time.Duration {
			user := withRepo(newSpack(t, line.authority))
			user.run("mirror", "add", "--unsigned", "--type", "binary", "ours", from)
			user.run("buildcache", "list", "--allarch", "many-all") // so that it has the index
			start := time.Now()
			user.run("install", "--cache-only", "--no-check-signature", "/"+hash)
			return time.Since(start)
		}
		var alone, copying, after []float64
		for range 3 {
			alone = append(alone, install(address).Seconds())
			dir, start := t.TempDir()+"/local", time.Now()
			copyAll(t, trusting(t, address, line.authority), open(t, dir), CopyOptions{})
			copying = append(copying, time.Since(start).Seconds())
			after = append(after, install("file://"+dir).Seconds())
		}
		for _, times := range [][]float64{alone, copying, after} {
			slices.Sort(times)
		}
		t.Logf("%s, %d packages of %d kB, medians: Spack alone %.1f s; copied before in %.1f s, then Spack %.1f s",
			line.name, n+1, size/1000, alone[1], copying[1], after[1])
	}
}

// manyRecipes makes a repository with n packages of random bytes, and one that
// needs all of them.
func manyRecipes(t *testing.T, n, size int) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "spack_repo/many")
	writeFile(t, filepath.Join(root, "repo.yaml"), []byte("repo:\n  namespace: many\n  api: v2.0\n"))
	const head = "import os\n\nfrom spack_repo.builtin.build_systems.generic import Package\n\nfrom spack.package import *\n\n\nclass %s(Package):\n    \"\"\"A package for a measurement.\"\"\"\n\n    homepage = \"https://example.org\"\n    has_code = False\n    version(\"1.0\")\n%s\n    def install(self, spec, prefix):\n        mkdirp(prefix.share)\n        with open(join_path(prefix.share, \"data\"), \"wb\") as f:\n            f.write(os.urandom(%d))\n"
	needs := ""
	for i := range n {
		name := fmt.Sprintf("many-%c%c", 'a'+i/26, 'a'+i%26)
		needs += fmt.Sprintf("    depends_on(%q, type=\"link\")\n", name)
		class := "Many" + strings.ToUpper(name[5:6]) + name[6:]
		writeFile(t, filepath.Join(root, "packages", strings.ReplaceAll(name, "-", "_"), "package.py"), fmt.Appendf(nil, head, class, "", size))
	}
	writeFile(t, filepath.Join(root, "packages/many_all/package.py"), fmt.Appendf(nil, head, "ManyAll", needs, size))
	return root
}

// behindALine is a server before another one: each answer takes a while to
// begin, and all of them share so many bytes per second.
func behindALine(t *testing.T, addr string, delay time.Duration, perSecond int) string {
	t.Helper()
	back := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}
	var line sync.Mutex
	back.ModifyResponse = func(r *http.Response) error {
		time.Sleep(delay)
		r.Body = &slowBody{r.Body, &line, perSecond}
		return nil
	}
	server := httptest.NewServer(back)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

type slowBody struct {
	io.ReadCloser
	line      *sync.Mutex
	perSecond int
}

// Read implements io.Reader.
func (s *slowBody) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.line.Lock()
	defer s.line.Unlock()
	time.Sleep(time.Duration(n) * time.Second / time.Duration(s.perSecond))
	return n, err
}
