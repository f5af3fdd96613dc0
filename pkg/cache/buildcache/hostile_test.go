package buildcache

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// A registry leads uploads, downloads and lists elsewhere: a login never goes
// along, in whatever way a blob is sent.
func TestLoginsStayAtTheirRegistry(t *testing.T) {
	behind := registry.Options{User: "ann", Password: "s3cret"}
	front := registry.StartFront(t, registry.FrontOptions{Behind: behind})
	elsewhere := registry.StartElsewhere(t, front.Behind, behind)
	src := open(t, newV3(t, "hdf5", "zlib"))
	opened := func(name string, change func(*Options)) *Cache {
		opt := options()
		opt.Credentials = logins("ann", "s3cret") // they are for whoever wants them
		if change != nil {
			change(&opt)
		}
		c, err := Open(t.Context(), "oci+http://"+front.Address+"/"+name, opt)
		must(t, err)
		return c
	}
	pieces := func(o *Options) { o.ChunkSize = 100_000 }
	oneAtATime := func(o *Options) { o.Jobs = 1 }
	checkNothing := func(t *testing.T, request string) {
		t.Helper()
		asked, logins := elsewhere.Seen()
		if len(logins) > 0 || !strings.Contains(strings.Join(asked, " "), request) {
			t.Errorf("elsewhere, these logins were sent: %q, among the requests %q", logins, asked)
		}
	}
	t.Run("in one piece", func(t *testing.T) {
		front.Change(elsewhere.Uploads)
		if _, err := Copy(t.Context(), src, opened("whole", nil), CopyOptions{}); err == nil || !strings.Contains(err.Error(), "different host") {
			t.Errorf("error %v", err)
		}
		checkNothing(t, "")
	})
	t.Run("in pieces", func(t *testing.T) {
		front.Change(elsewhere.Uploads)
		copyAll(t, src, opened("pieces", pieces), CopyOptions{})
		checkNothing(t, "PATCH ")
	})
	t.Run("in pieces because one is too large", func(t *testing.T) {
		var tooLarge atomic.Bool
		front.Refuse(func(r *http.Request) int {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/") && r.ContentLength > 200_000 {
				tooLarge.Store(true)
				return http.StatusRequestEntityTooLarge
			}
			return 0
		})
		front.Change(func(resp *http.Response) {
			if tooLarge.Load() {
				elsewhere.Uploads(resp)
			}
		})
		dst := opened("fallback", oneAtATime) // else another upload, in one piece, may end the copy before
		dst.reader.(*repository).fallback = 100_000
		_, _ = Copy(t.Context(), src, dst, CopyOptions{}) // what was on its way in one piece is refused
		front.Refuse(nil)
		checkNothing(t, "PATCH ")
	})
	front.Change(nil)
	copyAll(t, src, opened("good", nil), CopyOptions{})
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		t.Run(fmt.Sprint("redirected with ", status), func(t *testing.T) {
			front.Change(elsewhere.Redirects(status, func(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }))
			good := opened("good", nil)
			sound(t, good, "hdf5", "zlib")
			checkDeep(t, good)
			checkNothing(t, "GET ")
		})
	}
	t.Run("the next page of a list", func(t *testing.T) {
		front.Change(func(resp *http.Response) {
			if strings.HasSuffix(resp.Request.URL.Path, "/tags/list") {
				resp.Header.Set("Link", fmt.Sprintf("<http://%s/v2/good/tags/list?last=a>; rel=\"next\"", elsewhere.Address))
			}
		})
		_, _ = opened("good", nil).List(t.Context(), ListOptions{})
		checkNothing(t, "")
	})
}

// A server that asks for a login itself gets none, either: it was not meant for
// it.
func TestLoginIsForOneRegistry(t *testing.T) {
	var elsewhere string
	asked := map[string]bool{}
	elsewhere = proxy(t, "127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
		asked[r.Method] = true
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s gets %s", r.Method, r.Header.Get("Authorization"))
		}
		if r.URL.Path == "/token" {
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "x"})
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="elsewhere"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	front := proxy(t, "127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "http://"+elsewhere+"/upload")
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		return true
	})
	opt := options()
	opt.Credentials, opt.ChunkSize = logins("ann", "s3cret"), 100_000
	dst, err := Open(t.Context(), "oci+http://"+front+"/x", opt)
	must(t, err)
	if _, err := Copy(t.Context(), open(t, newV3(t, "zlib")), dst, CopyOptions{}); err == nil {
		t.Error("no error")
	}
	if !asked[http.MethodPatch] {
		t.Errorf("elsewhere, %v were asked", asked)
	}
}

// The login for a web server is not for the one that it leads to.
func TestWebServerThatLeadsElsewhere(t *testing.T) {
	files := webServer(t, newV3(t, "zlib"))
	elsewhere := registry.StartElsewhere(t, strings.SplitN(strings.TrimPrefix(files, "http://"), "/", 2)[0], registry.Options{})
	front := proxy(t, "127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			t.Error("the server itself gets no login")
		}
		http.Redirect(w, r, "http://"+elsewhere.Address+r.URL.Path, http.StatusFound)
		return true
	})
	opt := options()
	opt.Credentials = logins("ann", "s3cret")
	_, path, _ := strings.Cut(strings.TrimPrefix(files, "http://"), "/")
	c, err := Open(t.Context(), "http://"+front+"/"+path, opt)
	must(t, err)
	sound(t, c, "zlib")
	if asked, logins := elsewhere.Seen(); len(asked) == 0 || len(logins) > 0 {
		t.Errorf("elsewhere, these logins were sent: %q, among the requests %q", logins, asked)
	}
}
