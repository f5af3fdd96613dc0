//go:build integration

package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// The program's login for a registry goes nowhere else, whatever the registry
// answers: in pushes and pulls, with attachments and step caches.
func TestLoginStaysAtItsRegistry(t *testing.T) {
	t.Parallel()
	behind := registry.Options{User: "ann", Password: "s3cret"}
	front := registry.StartFront(t, registry.FrontOptions{Behind: behind})
	elsewhere := registry.StartElsewhere(t, front.Behind, behind)
	p := newProject(t, "version: 1\nname: localhost/app\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE}]\n")
	p.freshStore()
	p.build("--tag", "1").ok()
	login := []string{"--storage-root", p.store, "--tls-verify=false", "--creds", "ann:s3cret"}
	run := func(verb string, args ...string) {
		t.Helper()
		if o := p.run(append(append([]string{verb}, login...), args...)...); o.code != 0 {
			t.Errorf("%s ends with %d\n%s", verb, o.code, o.stderr)
		}
	}
	checkNothing := func(what, request string) {
		t.Helper()
		asked, logins := elsewhere.Seen()
		if len(logins) > 0 || !strings.Contains(strings.Join(asked, " "), request) {
			t.Errorf("%s: elsewhere, these logins were sent: %q, among the requests %q", what, logins, asked)
		}
	}
	image := front.Address + "/group/app:1"
	front.Change(elsewhere.Uploads)
	run("push", "localhost/app:1", image)
	checkNothing("push", "PATCH ")
	o := p.run(append(append([]string{"push", "--sbom"}, login...), "localhost/app:1", image)...)
	if o.code != 7 || !strings.Contains(o.stderr, "different host") {
		t.Errorf("push --sbom ends with %d\n%s", o.code, o.stderr)
	}
	checkNothing("push --sbom", "")
	p.build("--tag", "1", "--no-cache", "--tls-verify=false", "--creds", "ann:s3cret", "--cache-to", front.Address+"/group/steps").ok()
	checkNothing("build --cache-to", "PATCH ")

	front.Change(elsewhere.Redirects(http.StatusTemporaryRedirect, func(r *http.Request) bool {
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}))
	run("inspect", "docker://"+image)
	checkNothing("inspect", "GET ")
	p.freshStore()
	p.build("--tag", "2", "--tls-verify=false", "--creds", "ann:s3cret", "--cache-from", front.Address+"/group/steps").ok()
	checkNothing("build --cache-from", "GET ")
	p.freshStore()
	p.recipe("version: 1\nname: localhost/next\nstages:\n  - name: final\n    from: " + image + "\n")
	p.build("--tag", "1", "--tls-verify=false", "--creds", "ann:s3cret").ok()
	checkNothing("build", "GET ")
}

// An image's own name is where it is pushed to, unless it is one of this host.
func TestPushNeedsADestination(t *testing.T) {
	t.Parallel()
	addr := registry.Start(t, registry.Options{})
	p := newProject(t, "version: 1\nname: localhost/app\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE}]\n")
	p.build("--tag", "1", "--tag", addr+"/group/app:1").ok()
	for _, name := range []string{"app:1", "localhost/app:1"} {
		o := p.run("push", "--storage-root", p.store, name)
		if o.code != 2 || !strings.Contains(o.stderr, "localhost/app:1 is a name of this host") || !strings.Contains(o.stderr, "give a DESTINATION") {
			t.Errorf("push %s: exit code %d\n%s", name, o.code, o.stderr)
		}
	}
	if o := p.run("push", "--storage-root", p.store, "--tls-verify=false", addr+"/group/app:1"); o.code != 0 {
		t.Error(o.stderr)
	}
}
