//go:build integration

package integration

import (
	"slices"
	"strings"
	"testing"
)

// These tests are about what an image has of Spack environments, with the test
// double.

const lastWordRecipe = `version: 1
name: localhost/spack-flow
stages:
  - name: builder
    from: BASE
    steps:
      - copy: spack-double
        to: /opt/spack/bin/spack
        mode: "0755"
      - spack: {environment: spack.yaml, name: a}
      - spack: {environment: spack.yaml, name: b}
      - run: echo NONCE
  - name: final
    from: BASE
    env: {APP_HOME: /of the stage}
    steps:
      - {environment: builder, name: a}
      - {environment: builder, name: b}
      - env: {SPACK_APP: of a step}
      - check: app
    entrypoint: activate
`

// What the recipe and the caller of a container set has precedence over what
// Spack's packages set, and all environments of an image are active.
func TestRecipeHasTheLastWord(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	p.recipe(lastWordRecipe)
	img, _ := p.export("--tag", "last-word")
	env := img.config.Config.Env
	for _, want := range []string{"APP_HOME=/of the stage", "SPACK_APP=of a step", "APP_EMPTY=", "MODULEPATH=/opt/modules:/opt/modules"} {
		if !slices.Contains(env, want) {
			t.Errorf("the image's environment lacks %q: %q", want, env)
		}
	}
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "SPACK_ENV") }) {
		t.Errorf("the image's environment tells of Spack itself: %q", env)
	}
	files := img.files()
	for _, name := range []string{"/entrypoint.sh", "/etc/profile.d/spack-environment.sh"} {
		if !strings.Contains(files[name].content, ". /opt/spack-environment-a/activate.sh\n. /opt/spack-environment-b/activate.sh\n") {
			t.Errorf("%s does not activate both environments:\n%s", name, files[name].content)
		}
	}
	if got, want := files["/opt/modules/app/1.0"].content, "#%Module1.0\n## Module file created by spack (https://github.com/spack/spack)\n##\nsetenv HAS app\n"; got != want {
		t.Errorf("the module file is %q, want %q", got, want)
	}
	if _, ok := files["/opt/modules/tool/1.0"]; ok {
		t.Error("the image has a module file of a package that stays behind")
	}
	show := `printf '%s|%s' "$APP_HOME" "$SPACK_APP"`
	for want, args := range map[string][]string{
		"/of the stage|of a step": {"last-word", "--", "sh", "-c", show},
		"/mine|of a step":         {"-e", "APP_HOME=/mine", "last-word", "--", "sh", "-c", show},
		"|of a step":              {"-e", "APP_HOME=", "last-word", "--", "sh", "-lc", show},
		// A login on a system that does not have the image's variables.
		"/of the stage|of a step\n": {"last-word", "--", "env", "-i", "sh", "-lc", show + "; echo"},
	} {
		for i := range args {
			args[i] = strings.Replace(args[i], "last-word", "localhost/spack-flow:last-word", 1)
		}
		if out := p.run(append([]string{"run", "--storage-root", p.store}, args...)...); out.stdout != want {
			t.Errorf("%q: %d %q %s, want %q", args, out.code, out.stdout, out.stderr, want)
		}
	}
}

// A view that Spack has packages for and that is not there is an error: the image
// would lack its programs.
func TestViewIsNotThere(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, `view: {"root":"/root/v","link_type":"symlink","filled":true,"text":{}}`, "", "true")
	p.build().fails(3, "view /root/v", "has not made it")
}
