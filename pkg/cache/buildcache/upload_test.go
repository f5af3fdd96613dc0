package buildcache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// A blob goes in pieces where that is asked for, and where all of it at once
// is too large; a piece whose answer gets lost does no harm.
func TestUploadInPieces(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	var pieces, refused atomic.Int64
	limit := int64(1 << 40)
	back := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > limit {
			refused.Add(1)
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if r.Method == http.MethodPatch && pieces.Add(1) == 2 {
			back.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler) // the registry has it, the client does not know
		}
		back.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	opt := options()
	opt.ChunkSize = 100_000
	address := "oci+http://" + server.Listener.Addr().String()
	dst, err := Open(t.Context(), address+"/pieces", opt)
	must(t, err)
	if r := copyAll(t, open(t, newV3(t, stored()...)), dst, CopyOptions{}); len(r.Copied) != len(stored()) || pieces.Load() < 5 {
		t.Errorf("Copy returns %+v after %d pieces", r, pieces.Load())
	}
	checkDeep(t, dst)

	// hdf5 is larger than what a proxy lets through.
	pieces.Store(10)
	limit = 200_000
	dst = open(t, address+"/refused")
	dst.reader.(*repository).fallback = 100_000
	copyAll(t, open(t, newV3(t, stored()...)), dst, CopyOptions{})
	if refused.Load() == 0 || pieces.Load() < 14 {
		t.Errorf("%d refused, %d pieces", refused.Load(), pieces.Load()-10)
	}
	checkDeep(t, dst)
}

// logins answers every server with the same.
func logins(user, password string) CredentialFunc {
	return func(context.Context, string, string) (Credential, error) {
		return Credential{Username: user, Password: password}, nil
	}
}

func checkDeep(t *testing.T, c *Cache) {
	t.Helper()
	report, err := c.Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if !report.Sound() {
		t.Errorf("Verify finds %+v", report.Findings)
	}
}

// A real registry sends its clients to a token server, for the source's
// repository as well as for the destination's.
func TestCopyWithTokens(t *testing.T) {
	addr := registry.Start(t, registry.Options{User: "ann", Password: "open sesame", Tokens: true})
	opt := options()
	opt.Credentials = logins("ann", "open sesame")
	var caches []*Cache
	for _, name := range []string{"one", "two"} {
		c, err := Open(t.Context(), "oci+http://"+addr+"/site/"+name, opt)
		must(t, err)
		caches = append(caches, c)
	}
	copyAll(t, open(t, newV3(t, stored()...)), caches[0], CopyOptions{})
	if r := copyAll(t, caches[0], caches[1], CopyOptions{}); r.MountedBlobs == 0 || r.SentBlobs > 0 {
		t.Errorf("Copy within one registry returns %+v", r)
	}
	checkDeep(t, caches[1])
	opt.Credentials = logins("ann", "wrong")
	wrong, err := Open(t.Context(), "oci+http://"+addr+"/site/one", opt)
	must(t, err)
	if _, err := wrong.List(t.Context(), ListOptions{}); err == nil {
		t.Error("a wrong password is good enough")
	}
}
