//go:build integration

package integration

import (
	"strings"
	"testing"
)

// A step that writes a secret to a cache mount fails the build, and what it has
// written is gone: other steps use the same cache. What else is there stays.
func TestSecretInCacheMount(t *testing.T) {
	t.Parallel()
	const recipe = `secrets: {tok: {env: TOKEN}, other: {env: OTHER}}
`
	const look = `
  - name: final
    from: small
    steps:
      - run: ls -R /c; cat /c/old /c/link # LOOK
        mounts: [{type: cache, target: /c, id: NONCE}]
`
	stages := func(command string) string {
		return recipe + smallBase[len("version: 1\n"):] + `
  - name: final
    from: small
    steps:
      - run: '` + command + `'
        secrets: [tok, other]
        mounts: [{type: cache, target: /c, id: NONCE}]
`
	}
	p := newSmall(t, "")
	p.env = []string{"TOKEN=supersecret-" + p.nonce, "OTHER=other-" + p.nonce}
	p.recipe("version: 1\n" + stages("echo old >/c/old; ln -s old /c/link; mkdir -p /c/d/e; truncate -s 4T /c/sparse || true"))
	p.build().ok()
	for command, where := range map[string]string{
		"cat /run/secrets/tok >/c/d/e/leak":                "file /d/e/leak of the cache mount at /c",
		"cp /run/secrets/tok /c/leak; exit 3":              "file /leak of the cache mount at /c",
		"base64 /run/secrets/tok >>/c/d/f; chmod 0 /c/d/f": "file /d/f of the cache mount at /c",
		"ln -s $(cat /run/secrets/tok) /c/l":               "file /l of the cache mount at /c",
		"mkdir -p /c/x/$(cat /run/secrets/tok)/y":          "of the cache mount at /c",
	} {
		p.recipe("version: 1\n" + stages(command+" # "+nonce()))
		o := p.build("--progress", "plain").fails(6, `secret "tok"`, where, "removed")
		if strings.Contains(o.stderr, "supersecret-"+p.nonce) {
			t.Errorf("the value is printed:\n%s", o.stderr)
		}
		p.recipe(smallBase + look + "# " + nonce())
		got := p.build("--no-cache").ok()
		for _, left := range []string{"leak", "supersecret", " /d/f", "/c/l\n"} {
			if strings.Contains(got.stderr, left) {
				t.Errorf("%s: %q is left:\n%s", command, left, got.stderr)
			}
		}
	}
	p.recipe("version: 1\n" + stages("cat /run/secrets/tok >/dev/null; echo new >/c/new; cat /c/old # again"))
	p.build().ok().says("final | old")
}
