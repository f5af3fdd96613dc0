package buildcache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// How long copying 200 packages from one registry to another takes, how many
// requests and how much memory: pdibuild beside loops of skopeo copy and oras
// copy over the tags. It is a measurement, for which a variable asks:
//
//	PDIBUILD_BESIDE=path/to/pdibuild go test -run CopyBesideOthers -v ./pkg/cache/buildcache
func TestCopyBesideOthers(t *testing.T) {
	program := os.Getenv("PDIBUILD_BESIDE")
	if program == "" {
		t.Skip("PDIBUILD_BESIDE names no pdibuild: this is a measurement")
	}
	src, fromRequests := counted(t, registry.Start(t, registry.Options{}))
	copyAll(t, open(t, manyPackages(t, 200, 300_000)), open(t, "oci+http://"+src+"/site/cache"), CopyOptions{})
	refs, err := open(t, "oci+http://"+src+"/site/cache").reader.list(t.Context())
	must(t, err)
	dst, toRequests := counted(t, registry.Start(t, registry.Options{}))
	cacheOf := func(host, name string) string { return host + "/" + name + "/cache" }
	for _, tool := range []struct {
		name string
		loop func(name string) [][]string
	}{
		{"pdibuild", func(name string) [][]string {
			return [][]string{{program, "cache", "buildcache", "copy", "-q", "oci+http://" + cacheOf(src, "site"), "oci+http://" + cacheOf(dst, name)}}
		}},
		{"skopeo", func(name string) (all [][]string) {
			for _, r := range append(refs, ref{key: indexTag}) {
				all = append(all, []string{"skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + cacheOf(src, "site") + ":" + r.key, "docker://" + cacheOf(dst, name) + ":" + r.key})
			}
			return all
		}},
		{"oras", func(name string) (all [][]string) {
			for _, r := range append(refs, ref{key: indexTag}) {
				all = append(all, []string{"oras", "copy", "--no-tty", "--from-plain-http", "--to-plain-http", cacheOf(src, "site") + ":" + r.key, cacheOf(dst, name) + ":" + r.key})
			}
			return all
		}},
	} {
		if _, err := exec.LookPath(tool.loop("x")[0][0]); err != nil {
			t.Logf("%s is not installed", tool.name)
			continue
		}
		for _, again := range []string{"first", "again"} {
			fromRequests.Store(0)
			toRequests.Store(0)
			start, memory := time.Now(), int64(0)
			for _, args := range tool.loop(tool.name) {
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", args, err, out)
				}
				usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
				memory = max(memory, usage.Maxrss)
			}
			t.Logf("%-9s %s: %6.1f s, %5d + %5d requests, %3d MB", tool.name, again, time.Since(start).Seconds(), fromRequests.Load(), toRequests.Load(), memory/1024)
		}
	}
}

// counted is a server before another one that counts requests.
func counted(t *testing.T, addr string) (string, *atomic.Int64) {
	t.Helper()
	n := &atomic.Int64{}
	back := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		back.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), n
}

// manyPackages writes a directory with packages that depend on nothing.
func manyPackages(t *testing.T, n, size int) string {
	t.Helper()
	root := t.TempDir()
	for i := range n {
		p := pkg{name: fmt.Sprintf("package%03d", i), version: "1.0", size: size}
		data := toJSON(t, map[string]any{"version": 3, "data": []any{
			writeBlob(t, root, archiveType, "gzip", archive(t, p)),
			writeBlob(t, root, specType, "gzip", zipped(t, toJSON(t, specFileOf(p, 5, node)))),
		}})
		writeFile(t, manifestPath(root, p), data)
	}
	return root
}
