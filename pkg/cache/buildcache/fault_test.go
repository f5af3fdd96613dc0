package buildcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// proxy puts a handler before a server: it answers a request itself and returns
// true, or leaves it to the server.
func proxy(t *testing.T, addr string, before func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host
			r.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !before(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// cut ends the connection.
func cut(w http.ResponseWriter) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = connection.Close()
	}
}

// halve answers a download with its first half and then cuts the connection.
func halve(w http.ResponseWriter, r *http.Request, addr string) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+addr+r.URL.RequestURI(), nil)
	if err != nil {
		cut(w)
		return
	}
	request.Header = r.Header.Clone()
	request.Header.Del("Authorization")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		cut(w)
		return
	}
	defer response.Body.Close()
	for key, values := range response.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.CopyN(w, response.Body, response.ContentLength/2)
	_ = http.NewResponseController(w).Flush()
	cut(w)
}

// A troublemaker makes one request of every few fail, in turn in all ways.
func troublemaker(addr string, every int64) (before func(w http.ResponseWriter, r *http.Request) bool, faults *atomic.Int64) {
	var requests atomic.Int64
	faults = &atomic.Int64{}
	return func(w http.ResponseWriter, r *http.Request) bool {
		if requests.Add(1)%every != 0 {
			return false
		}
		fault := faults.Add(1) % 4
		blob := strings.Contains(r.URL.Path, "/blobs/")
		switch {
		case fault == 0 && r.Method == http.MethodGet && blob:
			halve(w, r, addr)
		case fault == 0:
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			cut(w)
		case fault == 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case fault == 2:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			cut(w)
		}
		return true
	}, faults
}

func TestCopyOverABadNetwork(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	before, faults := troublemaker(addr, 4)
	bad := "oci+http://" + proxy(t, addr, before)
	quiet := options()
	quiet.Retries = 20
	quiet.RetryWait = time.Millisecond
	var told atomic.Int64
	quiet.Report = func(string) { told.Add(1) }
	reopen := func(address string) *Cache {
		c, err := Open(t.Context(), address, quiet)
		must(t, err)
		return c
	}
	copyAll(t, open(t, newV3(t, stored()...)), reopen(bad+"/a"), CopyOptions{})
	copyAll(t, reopen(bad+"/a"), reopen(bad+"/b"), CopyOptions{})
	dir := t.TempDir()
	copyAll(t, reopen(bad+"/b"), reopen(dir), CopyOptions{})
	t.Logf("%d faults, %d reports", faults.Load(), told.Load())
	if faults.Load() < 20 || told.Load() < 20 {
		t.Errorf("only %d faults and %d reports", faults.Load(), told.Load())
	}
	for _, address := range []string{"oci+http://" + addr + "/a", "oci+http://" + addr + "/b", dir} {
		sound(t, open(t, address), stored()...)
	}
}

func TestDownloadGoesOnWhereItWasCut(t *testing.T) {
	root := newV3(t, "hdf5")
	size := len(archive(t, world()["hdf5"]))
	var ranges []string
	var mu sync.Mutex
	upstream := httptest.NewServer(http.FileServerFS(os.DirFS(root)))
	t.Cleanup(upstream.Close)
	addr := upstream.Listener.Addr().String()
	front := proxy(t, addr, func(w http.ResponseWriter, r *http.Request) bool {
		if path.Base(r.URL.Path) != filepath.Base(blobPath(t, root, world()["hdf5"])) || r.Method != http.MethodGet {
			return false
		}
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		again := len(ranges) <= 3
		mu.Unlock()
		if again {
			halve(w, r, addr)
		}
		return again
	})
	dst := open(t, t.TempDir())
	copyAll(t, open(t, "http://"+front), dst, CopyOptions{})
	sound(t, dst, "hdf5")
	want := []string{"", fmt.Sprintf("bytes=%d-", size/2), fmt.Sprintf("bytes=%d-", size/2+(size-size/2)/2)}
	if len(ranges) != 4 || ranges[0] != want[0] || ranges[1] != want[1] || ranges[2] != want[2] {
		t.Errorf("ranges asked for are %q, want them to start with %q", ranges, want)
	}
}

func TestRetryAfterHoldsBackEverything(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	copyAll(t, open(t, newV3(t, stored()...)), open(t, "oci+http://"+addr+"/a"), CopyOptions{})
	var mu sync.Mutex
	var refused time.Time
	early := 0
	front := proxy(t, addr, func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case refused.IsZero() && strings.HasSuffix(r.URL.Path, tagSuffix):
			refused = time.Now()
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		// On a busy machine, what was sent before comes a second later.
		case !refused.IsZero() && time.Since(refused) > time.Second && time.Since(refused) < 2900*time.Millisecond:
			early++
		}
		return false
	})
	start := time.Now()
	packages, err := open(t, "oci+http://"+front+"/a").List(t.Context(), ListOptions{})
	must(t, err)
	if len(packages) != len(stored()) || early > 0 || time.Since(start) < 3*time.Second {
		t.Errorf("%d packages after %s, %d requests came before the three seconds were over", len(packages), time.Since(start), early)
	}
}

func TestPatienceEnds(t *testing.T) {
	front := proxy(t, "127.0.0.1:1", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	_, err := open(t, "oci+http://"+front+"/a").List(t.Context(), ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "asks to come back in 24h0m0s") {
		t.Errorf("error is %v", err)
	}
}

// A registry that gives tokens, each for one repository and few requests.
func TestTokens(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	var mu sync.Mutex
	left, scopes := map[string]int{}, map[string]string{}
	issued := 0
	front := proxy(t, addr, func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/token" {
			if user, password, _ := r.BasicAuth(); user != "ann" || password != "s3cret" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			issued++
			token := fmt.Sprint("token-", issued)
			left[token], scopes[token] = 10, strings.Join(r.URL.Query()["scope"], " ")
			_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
			return true
		}
		name := strings.Split(r.URL.Path, "/")[2]
		action := "pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			action = "pull,push"
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if left[token] > 0 && strings.Contains(scopes[token], "repository:"+name+":"+action) {
			left[token]--
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:%s:%s"`, r.Host, name, action))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	opt := options()
	opt.Credentials = func(_ context.Context, host, path string) (Credential, error) {
		if host != front || path != "a" && path != "b" {
			t.Errorf("credentials are asked for %s/%s", host, path)
		}
		return Credential{Username: "ann", Password: "s3cret"}, nil
	}
	a, err := Open(t.Context(), "oci+http://"+front+"/a", opt)
	must(t, err)
	b, err := Open(t.Context(), "oci+http://"+front+"/b", opt)
	must(t, err)
	copyAll(t, open(t, newV3(t, stored()...)), a, CopyOptions{})
	result := copyAll(t, a, b, CopyOptions{})
	if result.SentBlobs != 0 || result.MountedBlobs != 10 {
		t.Errorf("%d blobs were sent and %d mounted", result.SentBlobs, result.MountedBlobs)
	}
	sound(t, b, stored()...)
	t.Logf("%d tokens", issued)
}

// wholeBlobs fails the test if a file in blobs is not what its name says.
func wholeBlobs(t *testing.T, root string) int {
	t.Helper()
	whole := 0
	for name, content := range tree(t, root) {
		if !strings.HasPrefix(name, "/blobs/") || strings.HasPrefix(path.Base(name), unfinished) {
			continue
		}
		if sha([]byte(content)) != path.Base(name) {
			t.Errorf("%s is not whole", name)
		}
		whole++
	}
	return whole
}

func TestCopyIsInterruptedTenTimes(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	from := newV3(t, stored()...)
	var requests, limit atomic.Int64
	var cancel atomic.Pointer[context.CancelFunc]
	front := proxy(t, addr, func(http.ResponseWriter, *http.Request) bool {
		if limit.Load() > 0 && requests.Add(1) == limit.Load() {
			(*cancel.Load())()
		}
		return false
	})
	random := rand.New(rand.NewPCG(1, 2))
	interrupted := func(src, dst *Cache) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cancel.Store(&stop)
		requests.Store(0)
		limit.Store(3 + random.Int64N(27))
		_, err := Copy(ctx, src, dst, CopyOptions{})
		limit.Store(0)
		if !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("an interrupted copy ends with %v", err)
		}
	}
	address := "oci+http://" + front + "/a"
	for range 10 {
		interrupted(open(t, from), open(t, address))
	}
	copyAll(t, open(t, from), open(t, address), CopyOptions{})
	sound(t, open(t, address), stored()...)
	to, most := t.TempDir(), 0
	for range 10 {
		interrupted(open(t, address), open(t, to))
		most = max(most, wholeBlobs(t, to))
	}
	if most == 0 {
		t.Error("no interrupted copy brought anything")
	}
	copyAll(t, open(t, address), open(t, to), CopyOptions{})
	sound(t, open(t, to), stored()...)
}

func TestLargeFilesAreInterrupted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blobs/x")
	writeFile(t, name, make([]byte, 1<<20))
	ctx, stop := context.WithCancel(t.Context())
	body, _, err := localFiles{root: filepath.Dir(name)}.open(ctx, "x")
	must(t, err)
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
		t.Error(err)
	}
	stop()
	if n, err := io.Copy(io.Discard, body); n > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("then %d bytes more and error %v", n, err)
	}
}

// TestMain runs a copy instead of the tests when a test asks for it, in a
// process that can be killed.
func TestMain(m *testing.M) {
	src, dst := os.Getenv("BUILDCACHE_TEST_SRC"), os.Getenv("BUILDCACHE_TEST_DST")
	if src == "" {
		code := m.Run()
		forgetPackages()
		os.Exit(code)
	}
	from, err := Open(context.Background(), src, options())
	if err == nil {
		var to *Cache
		if to, err = Open(context.Background(), dst, options()); err == nil {
			_, err = Copy(context.Background(), from, to, CopyOptions{})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// slowServer serves a directory, large files slowly.
func slowServer(t *testing.T, root string) *httptest.Server {
	t.Helper()
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.FileServerFS(os.DirFS(root)).ServeHTTP(&slowWriter{w}, r)
	}))
	t.Cleanup(slow.Close)
	return slow
}

// A package appears behind what it links and runs with, however small it is and
// however large that is.
func TestCopyBringsDependenciesFirst(t *testing.T) {
	slow := slowServer(t, newV3(t, stored()...))
	_, address := repo(t, registry.Options{}, "a")
	for _, dst := range []string{filepath.Join(t.TempDir(), "cache"), address} {
		var order []string
		var mu sync.Mutex
		copyAll(t, open(t, slow.URL), open(t, dst), CopyOptions{Progress: func(e CopyEvent) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, e.Package.Name)
		}})
		at := func(name string) int { return slices.Index(order, name) }
		if len(order) != len(stored()) || at("zlib") > at("hdf5") || at("hdf5") > at("app") || at("zlib") > at("py-tool") {
			t.Errorf("%s: packages appear as %q", dst, order)
		}
	}
}

func TestCopyIsKilledTenTimes(t *testing.T) {
	root := newV3(t, stored()...)
	slow := slowServer(t, root)
	to := filepath.Join(t.TempDir(), "cache")
	killed, leftovers := 0, 0
	for i := range 10 {
		ctx, kill := context.WithTimeout(t.Context(), time.Duration(40+25*i)*time.Millisecond)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "BUILDCACHE_TEST_SRC="+slow.URL, "BUILDCACHE_TEST_DST="+to)
		if err := cmd.Run(); err != nil && ctx.Err() != nil {
			killed++
		}
		kill()
		if _, err := os.Stat(to); err == nil {
			wholeBlobs(t, to)
			leftovers = max(leftovers, unfinishedFiles(t, to))
		}
	}
	t.Logf("killed %d times, at most %d unfinished files", killed, leftovers)
	copyAll(t, open(t, slow.URL), open(t, to), CopyOptions{})
	sound(t, open(t, to), stored()...)
	if n := unfinishedFiles(t, to); n > 0 {
		t.Errorf("%d unfinished files are left", n)
	}
}

func unfinishedFiles(t *testing.T, root string) int {
	t.Helper()
	n := 0
	for name := range tree(t, root) {
		if strings.HasPrefix(path.Base(name), unfinished) {
			n++
		}
	}
	return n
}

// A slowWriter sends 40 kB every 20 ms.
type slowWriter struct{ http.ResponseWriter }

func (s *slowWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := s.ResponseWriter.Write(p[sent:min(sent+40_000, len(p))])
		sent += n
		if err != nil {
			return sent, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		time.Sleep(20 * time.Millisecond)
	}
	return sent, nil
}
