package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
	internalregistry "github.com/pdidev/pdibuild/internal/registry"
	"github.com/pdidev/pdibuild/test/registry"
)

// writeLayout makes an image in the OCI layout. Change may be nil.
func writeLayout(t *testing.T, change func(*v1.Manifest)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	put := func(data []byte, mediaType string) v1.Descriptor {
		d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		writeTestFile(t, filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()), data)
		return d
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	empty := make([]byte, 1024) // an archive without files
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: hostArchitecture}, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(empty)}}}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: put(encode(config), v1.MediaTypeImageConfig), Layers: []v1.Descriptor{put(empty, v1.MediaTypeImageLayer)}}
	m.SchemaVersion = 2
	if change != nil {
		change(&m)
	}
	index := v1.Index{Manifests: []v1.Descriptor{put(encode(m), v1.MediaTypeImageManifest)}}
	index.SchemaVersion = 2
	writeTestFile(t, filepath.Join(dir, "index.json"), encode(index))
	writeTestFile(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return dir
}

func writeTestFile(t *testing.T, name string, data []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func imageReference(t *testing.T, name string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// transfer copies an image as Push and the pull of a base image do.
func transfer(t *testing.T, b *Builder, from, to string) error {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	src, dst := imageReference(t, from), imageReference(t, to)
	opt := &copy.Options{}
	var front [2]*imagetransfer.Front
	for i, side := range []struct {
		sys **types.SystemContext
		ref types.ImageReference
	}{{&opt.SourceCtx, src}, {&opt.DestinationCtx, dst}} {
		*side.sys, front[i], err = b.remote.Through(t.Context(), b.remote.SystemContext("linux/"+hostArchitecture), side.ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = front[i].Close() })
	}
	_, err = copy.Image(t.Context(), policy, dst, b.remote.Checked(src), opt)
	return front[1].Explain(front[0].Explain(err))
}

func loggedIn(t *testing.T, user, password string) *Builder {
	insecure := false
	works, err := openWorks(nil, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	return &Builder{works: works, remote: &imagetransfer.Client{
		Registries: Registries{Username: user, Password: password, TLSVerify: &insecure, LoginFiles: []string{}},
		BlobCache:  t.TempDir(), Temporary: works.begin,
	}}
}

// The library sends a login wherever an answer of a registry leads: with an
// upload, a redirection to another port, or a mount that became an upload. Here
// none gets there, and images arrive all the same.
func TestLoginsStayAtTheirRegistry(t *testing.T) {
	behind := registry.Options{User: "ann", Password: "s3cret"}
	front := registry.StartFront(t, registry.FrontOptions{Behind: behind})
	elsewhere := registry.StartElsewhere(t, front.Behind, behind)
	layout := "oci:" + writeLayout(t, nil)
	b := loggedIn(t, "ann", "s3cret")
	everything := func(*http.Request) bool { return true }
	blobs := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/sha256:") }
	for i, test := range []struct {
		name   string
		change func(*http.Response)
		want   string // a request that gets there
	}{
		{"uploads", elsewhere.Uploads, "PATCH"},
		{"blobs are redirected (307)", elsewhere.Redirects(http.StatusTemporaryRedirect, blobs), "GET"},
		{"blobs are redirected (302)", elsewhere.Redirects(http.StatusFound, blobs), "GET"},
		{"what is read is redirected", elsewhere.Redirects(http.StatusMovedPermanently, func(r *http.Request) bool {
			return r.Method == http.MethodGet || r.Method == http.MethodHead
		}), "GET"},
		{"manifests are redirected (308)", elsewhere.Redirects(http.StatusPermanentRedirect, func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/")
		}), "PUT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := fmt.Sprintf("docker://%s/group/app%d:1", front.Address, i)
			front.Change(test.change)
			if err := transfer(t, b, layout, name); err != nil {
				t.Errorf("push: %v", err)
			}
			if err := transfer(t, b, name, "oci:"+t.TempDir()); err != nil {
				t.Errorf("pull: %v", err)
			}
			asked, logins := elsewhere.Seen()
			if len(logins) > 0 || !strings.Contains(strings.Join(asked, " "), test.want+" ") {
				t.Errorf("elsewhere, these logins were sent: %q, among the requests %q", logins, asked)
			}
		})
	}
	t.Run("all is redirected", func(t *testing.T) {
		front.Change(elsewhere.Redirects(http.StatusTemporaryRedirect, everything))
		_ = transfer(t, b, layout, "docker://"+front.Address+"/group/all:1")
		if _, logins := elsewhere.Seen(); len(logins) > 0 {
			t.Errorf("elsewhere, these logins were sent: %q", logins)
		}
	})
}

// What the registry says about a mount is followed without a login, too.
func TestMountThatBecomesAnUploadElsewhere(t *testing.T) {
	behind := registry.Options{User: "ann", Password: "s3cret"}
	front := registry.StartFront(t, registry.FrontOptions{Behind: behind})
	elsewhere := registry.StartElsewhere(t, front.Behind, behind)
	layout := "oci:" + writeLayout(t, nil)
	b := loggedIn(t, "ann", "s3cret")
	if err := transfer(t, b, layout, "docker://"+front.Address+"/group/one:1"); err != nil {
		t.Fatal(err)
	}
	front.Asked()
	front.Change(func(resp *http.Response) {
		if resp.Request.URL.Query().Get("mount") != "" {
			resp.StatusCode, resp.Status = http.StatusAccepted, "202 Accepted"
			resp.Header.Set("Location", "http://"+elsewhere.Address+"/v2/group/two/blobs/uploads/x")
		}
	})
	if err := transfer(t, b, layout, "docker://"+front.Address+"/group/two:1"); err != nil {
		t.Error(err)
	}
	asked, logins := elsewhere.Seen()
	if len(logins) > 0 || !strings.Contains(strings.Join(asked, " "), "DELETE ") {
		t.Errorf("elsewhere, these logins were sent: %q, among the requests %q", logins, asked)
	}
}

// Tokens of a registry are logins, too.
func TestTokensStayAtTheirRegistry(t *testing.T) {
	front := registry.StartFront(t, registry.FrontOptions{User: "ann", Password: "s3cret"})
	elsewhere := registry.StartElsewhere(t, front.Behind, registry.Options{})
	b := loggedIn(t, "ann", "s3cret")
	front.Change(elsewhere.Uploads)
	if err := transfer(t, b, "oci:"+writeLayout(t, nil), "docker://"+front.Address+"/group/app:1"); err != nil {
		t.Errorf("push: %v", err)
	}
	asked, logins := elsewhere.Seen()
	if len(logins) > 0 || len(asked) == 0 {
		t.Errorf("elsewhere, these logins were sent: %q, among the requests %q", logins, asked)
	}
	wrong := transfer(t, loggedIn(t, "ann", "wrong"), "oci:"+writeLayout(t, nil), "docker://"+front.Address+"/group/app:2")
	var refused *internalregistry.RefusedError
	if !errors.As(wrong, &refused) || refused.User != "ann" {
		t.Errorf("a wrong password: %v", wrong)
	}
}

// The cause is all that an error says.
func TestRegistryErrorsSayTheCause(t *testing.T) {
	front := registry.StartFront(t, registry.FrontOptions{Behind: registry.Options{User: "ann", Password: "s3cret"}})
	status := func(code int) func(*http.Request) int {
		return func(r *http.Request) int {
			if strings.HasSuffix(r.URL.Path, "/v2/") {
				return 0
			}
			return code
		}
	}
	for _, test := range []struct {
		name, user, password string
		refuse               func(*http.Request) int
		push, pull, hint     string
	}{
		{"wrong password", "ann", "wrong", nil, "HOST refused the user ann (401)", "HOST refused the user ann (401)", "check the user"},
		{"no password", "", "", nil, "HOST wants a user and a password, and none were given for it", "HOST wants a user and a password, and none were given for it", "podman login HOST"},
		{"no image", "ann", "s3cret", nil, "", "manifest unknown (status 404", "name and tag"},
		{"forbidden", "ann", "s3cret", status(http.StatusForbidden), "HOST refused the user ann (403)", "HOST refused the user ann (403): Forbidden", "what the user may do"},
		{"a teapot", "ann", "s3cret", status(http.StatusTeapot), "status 418 (HEAD", "I'm a teapot (status 418", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			front.Refuse(test.refuse)
			b := loggedIn(t, test.user, test.password)
			name := "docker://" + front.Address + "/group/none:1"
			for op, err := range map[string]error{"pull": transfer(t, b, name, "oci:"+t.TempDir()), "push": transfer(t, b, "oci:"+writeLayout(t, nil), strings.Replace(name, "none", "other", 1))} {
				want := strings.Replace(map[string]string{"pull": test.pull, "push": test.push}[op], "HOST", front.Address, 1)
				if want == "" && err == nil {
					continue
				}
				if err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%s: error is %v, want %s", op, err, want)
					continue
				}
				var e *RegistryError
				if errors.As(imagetransfer.Error(op, "x", err), &e); !strings.Contains(e.Hint, strings.Replace(test.hint, "HOST", front.Address, 1)) {
					t.Errorf("%s: hint is %q", op, e.Hint)
				}
			}
		})
	}
}

// Only the library knows the key of the front: others on this host get nothing
// from it.
func TestFrontAnswersNobodyElse(t *testing.T) {
	addr := registry.Start(t, registry.Options{User: "ann", Password: "s3cret"})
	b := loggedIn(t, "ann", "s3cret")
	ref := imageReference(t, "docker://"+addr+"/a/b:1")
	sys, front, err := b.remote.Through(t.Context(), b.remote.SystemContext(""), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	if _, err := docker.GetRepositoryTags(t.Context(), sys, ref); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("error %v, want that there is no such repository", err)
	}
	proxy, err := front.Proxy(mustURL(t, "http://"+addr+"/v2/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "pdibuild:guess"} {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+proxy.Host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if name, password, ok := strings.Cut(user, ":"); ok {
			request.SetBasicAuth(name, password)
			request.Header["Proxy-Authorization"] = request.Header["Authorization"]
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusProxyAuthRequired {
			t.Errorf("who has no key gets status %d", response.StatusCode)
		}
	}
}

func mustURL(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
