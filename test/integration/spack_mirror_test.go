//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/test/registry"
)

// mirrorAt makes the project's environment one whose only mirror is there.
func (p *project) mirrorAt(address, comment, mirror string) {
	p.write("spack.yaml", fmt.Sprintf("spack: # %s\n  view: true\n  specs: [app]\n  mirrors:\n    far: {url: %q%s}\n", comment, address, mirror))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var canaryFound = regexp.MustCompile(`the canary in the environment of (\d+) and in a file: (.*)\.`)

// A package's build script that looks everywhere for the credential of the
// binary cache finds nothing, and the packages get there all the same: to
// registries that want a password, or a token, given as a secret, a variable
// or a login.
func TestHostilePackageFindsNoCredential(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		registry     registry.Options
		step, mirror string
		env          func(p *project, addr, password string) []string
	}{
		"a secret, Basic": {
			registry.Options{User: "ann"},
			", buildcache: {push: [far], password: mirror_password, required: true}", ", access_pair: {id: ann}",
			func(_ *project, _, password string) []string { return []string{"SECRET_OF_THE_MIRROR=" + password} },
		},
		"variables, tokens": {
			registry.Options{User: "ann", Tokens: true},
			", network: none, buildcache: {push: [far], required: true, proxy: true}",
			", access_pair: {id_variable: MIRROR_USER, secret_variable: MIRROR_PASSWORD}",
			func(_ *project, _, password string) []string {
				return []string{"MIRROR_USER=ann", "MIRROR_PASSWORD=" + password}
			},
		},
		"a login, tokens": {
			registry.Options{User: "ann", Tokens: true},
			", buildcache: {push: [far], required: true}", "",
			func(p *project, addr, password string) []string {
				file := filepath.Join(t.TempDir(), "auth.json")
				must(t, os.WriteFile(file, fmt.Appendf(nil, `{"auths": {%q: {"username": "ann", "password": %q}}}`, addr, password), 0o600))
				return []string{"REGISTRY_AUTH_FILE=" + file}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSpackProject(t, "", c.step, "true")
			password := "sekret-" + p.nonce
			c.registry.Password = password
			addr := registry.Start(t, c.registry)
			p.mirrorAt("oci+http://"+addr+"/site/cache", "hostile", c.mirror)
			p.env = c.env(p, addr, password)
			o := p.build().ok()
			o.says("hostile: credentials: .", "of these 3 specs, 0 are in the cache (0 B), 3 will compile")
			// The same search finds what is there, or it would prove nothing.
			if m := canaryFound.FindStringSubmatch(o.stderr); m == nil || !strings.Contains(m[2], "/proc/"+m[1]+"/environ ") || !strings.Contains(m[2], "/tmp/canary ") {
				t.Errorf("the search misses what is there:\n%s", o.stderr)
			}
			if strings.Contains(o.stderr, password) {
				t.Error("the output has the credential")
			}
			if found, _ := inNamespace(exec.Command("grep", "-rl", password, p.store)).Output(); len(found) > 0 {
				t.Errorf("the credential is in %s", found)
			}
			cache, err := buildcache.Open(t.Context(), "oci+http://"+addr+"/site/cache", buildcache.Options{
				Credentials: func(context.Context, string, string) (buildcache.Credential, error) {
					return buildcache.Credential{Username: "ann", Password: password}, nil
				},
			})
			must(t, err)
			report, err := cache.Verify(t.Context(), buildcache.VerifyOptions{Deep: true})
			must(t, err)
			if report.Packages != 3 || !report.Sound() {
				t.Errorf("what the build has pushed: %+v", report)
			}
			// Another host takes them from there, and says so before it does.
			emptyBuildcache(t, p)
			p.mirrorAt("oci+http://"+addr+"/site/cache", "a second host", c.mirror)
			plan := p.run("plan", "--storage-root", p.store, p.dir)
			if !strings.Contains(plan.stdout, "not known yet: the first build") {
				t.Errorf("the plan says %q %s", plan.stdout, plan.stderr)
			}
			p.build().ok().says("of these 2 specs, 2 are in the cache", "0 will compile", "app@1.0 fetched")
		})
	}
}
