//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// A secretBuild is a project whose recipe has one secret, tok, given in the
// variable TOK of the environment. Nothing else on this host has its value.
type secretBuild struct {
	*project
	value  string
	search search
}

func newSecretBuild(t *testing.T, steps string) *secretBuild {
	t.Helper()
	b := &secretBuild{project: newProject(t, `
version: 1
name: localhost/secret-NONCE
secrets:
  tok: {}
stages:
  - name: main
    from: BASE
    env: {RUN_ID: NONCE}
    steps:
`+steps)}
	// Of characters that are different in a URL.
	b.value = "s3/cret+" + nonce() + "=&x"
	b.env = []string{"TOK=" + b.value}
	b.search = search{Value: b.value, Since: time.Now(), Dirs: places(b.store), Not: otherTests(t, b.store)}
	return b
}

func (b *secretBuild) build(args ...string) outcome {
	b.t.Helper()
	o := b.project.build(append([]string{"--secret", "id=tok,env=TOK"}, args...)...)
	if strings.Contains(o.stdout+o.stderr, b.value) {
		b.t.Errorf("the output has the value:\n%s", strings.ReplaceAll(o.stderr, b.value, "THE-VALUE"))
	}
	return o
}

// TestSecretFile: a step that names the secret finds it in a read-only file in
// memory that only its owner reads; other steps find nothing anywhere.
func TestSecretFile(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - run: |
          set -eu
          test "$(stat -c %a:%u:%g /run/secrets/tok)" = 400:0:0
          test "$(findmnt -n -o FSTYPE -T /run/secrets/tok | tail -1)" = tmpfs
          findmnt -n -o VFS-OPTIONS -T /run/secrets/tok | tail -1 | tr , '\n' > /tmp/options
          for o in ro nosuid nodev noexec; do grep -qx $o /tmp/options || { echo "no $o"; exit 1; }; done
          rm /tmp/options
          if (echo x > /run/secrets/tok) 2>/dev/null; then echo "it can be written"; exit 1; fi
          if chmod 600 /run/secrets/tok 2>/dev/null; then echo "its mode can be changed"; exit 1; fi
          env > /tmp/env
          if grep -qF -f /run/secrets/tok /tmp/env; then echo "it is in the environment"; exit 1; fi
          rm /tmp/env
          sha256sum < /run/secrets/tok > /opt/sum
        secrets: [tok]
      - run: |
          set -eu
          test ! -e /run/secrets
          test -z "${TOK:-}"
          cat /proc/self/mounts > /tmp/mounts
          if grep -q secret /tmp/mounts; then exit 1; fi
          rm /tmp/mounts
`)
	dir := filepath.Join(t.TempDir(), "oci")
	b.build("--compression", "none", "-o", "type=oci,dest="+dir).ok()
	img := readOCI(t, dir)
	if sum := img.file("/opt/sum").content; !strings.HasPrefix(sum, sha256Hex(b.value)) {
		t.Errorf("the step has read something else than the value: %s", sum)
	}
	for name := range img.files() {
		if strings.HasPrefix(name, "/run/secrets") {
			t.Errorf("the image has %s", name)
		}
	}
	b.search.wantAbsent(t, "after the build")
}

// TestSecretForAnotherUser: the step's user can read the secret, under the
// name and in the variable that the step asks for, and the next step cannot.
func TestSecretForAnotherUser(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - user: {name: pdi, uid: 1001}
      - run: |
          set -eu
          test "$(id -u)" = 1001
          test "$(cat /home/pdi/token)" = "$TOKEN"
          test "$(stat -c %a /home/pdi/token)" = 400
        secrets: [{id: tok, target: /home/pdi/token, env: TOKEN}]
      - run: test -z "${TOKEN:-}" && test ! -e /home/pdi/token
`)
	b.build().ok()
	b.search.wantAbsent(t, "after the build")
}

// TestSecretWhileRunning: while a step uses the secret, and after everything
// was killed, the value is in no file of this host and in no argv.
func TestSecretWhileRunning(t *testing.T) {
	t.Parallel()
	seconds := ownSeconds()
	b := newSecretBuild(t, `
      - run: |
          value=$(cat /run/secrets/tok)
          echo "the value is $value"
          echo READY
          exec sleep `+seconds+`
        secrets: [tok]
`)
	sleep := "sleep " + seconds
	s := b.start("--secret", "id=tok,env=TOK")
	b.search.wantAbsent(t, "while the step runs")
	if out := s.stderr.String(); strings.Contains(out, b.value) || !strings.Contains(out, "the value is ***") {
		t.Errorf("the output is not masked:\n%s", strings.ReplaceAll(out, b.value, "THE-VALUE"))
	}
	s.signal(syscall.SIGKILL, true)
	s.end()
	eventually(t, "the step's processes are gone", func() bool { return running(t, sleep) == 0 })
	b.search.wantAbsent(t, "after kill -9")
}

// TestSearchFinds keeps the other tests honest: the search sees a value in a
// file of the store, in a file name and in an argv.
func TestSearchFinds(t *testing.T) {
	t.Parallel()
	value := "planted-" + nonce()
	store := storeOf(t)
	s := search{Value: value, Since: time.Now(), Dirs: places(store), Not: otherTests(t, store)}
	dir, err := os.MkdirTemp(store, "planted-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string]string{"content": strings.Repeat("x", 1<<20-10) + value, value: ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := s.find(t); len(found) != 2 {
		t.Errorf("found %q, want the content and the name", found)
	}
}

// TestSecretMasked: output and logs have *** for the value, also when it
// arrives in two writes.
func TestSecretMasked(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - run: |
          cat /run/secrets/tok; echo
          head -c 9 /run/secrets/tok; sleep 0.5; tail -c +10 /run/secrets/tok; echo
          base64 -w0 < /run/secrets/tok; echo
          echo "to stderr: $(cat /run/secrets/tok)" >&2
          echo END
        secrets: [tok]
`)
	o := b.build().ok()
	if n := strings.Count(o.stderr, "***"); n != 4 {
		t.Errorf("*** is %d times in the output, want 4\n%s", n, o.stderr)
	}
	o.says("| END\n", "to stderr: ***")
	logs, err := filepath.Glob(filepath.Join(o.LogDir, "*-run.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs in %s: %q, %v", o.LogDir, logs, err)
	}
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "***"); n != 4 {
		t.Errorf("*** is %d times in the log, want 4\n%s", n, data)
	}
	b.search.wantAbsent(t, "after the build")
}

// TestSecretInFailure: the message of a step that fails is masked, too.
func TestSecretInFailure(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - run: echo "wrong password $(cat /run/secrets/tok)"; exit 9
        secrets: [tok]
`)
	b.build().fails(4, "wrong password ***", "exit status 9")
	b.search.wantAbsent(t, "after the failed build")
}

// TestSecretLeak: a step that stores the value fails the build, which names
// the file, and nothing of it is kept.
func TestSecretLeak(t *testing.T) {
	t.Parallel()
	whole := search{Value: "s3/cret+" + nonce() + "=&x", Since: time.Now(), Dirs: places(storeOf(t)), Not: otherTests(t, storeOf(t))}
	const urlEncode = `perl -pe 's/([^A-Za-z0-9_.~-])/sprintf("%%%02X", ord($1))/ge'`
	for name, command := range map[string]string{
		"raw":              `(echo before; cat /run/secrets/tok; echo after) > /opt/leak`,
		"base64":           `base64 -w0 < /run/secrets/tok > /opt/leak`,
		"base64 of a pair": `printf 'user:%s' "$(cat /run/secrets/tok)" | base64 -w0 > /opt/leak`,
		"url-encoded":      urlEncode + ` < /run/secrets/tok > /opt/leak`,
		"file name":        `touch "/opt/leak$(tr / _ < /run/secrets/tok)" && ln -s "$(cat /run/secrets/tok)" /opt/leak`,
		"deep in a file":   `head -c 3000000 /dev/zero > /opt/leak; cat /run/secrets/tok >> /opt/leak`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newSecretBuild(t, "      - run: |\n          "+command+"\n        secrets: [tok]\n")
			b.value, b.env = whole.Value, []string{"TOK=" + whole.Value}
			b.search.Value, b.search.Dirs = whole.Value, []string{b.store}
			b.build("-t", "leak").fails(6, "tok", "/opt/leak", "hint")
			b.search.wantAbsent(t, "after the refused build")
			if out := b.run("images", "--storage-root", b.store); strings.Contains(out.stdout, b.nonce) {
				t.Errorf("the image is there:\n%s", out.stdout)
			}
		})
	}
	whole.wantAbsent(t, "after all refused builds")
}

// TestSecretNeverSaid: whatever the value has got into, no message, event, log
// or record has it, and the error names the stage and, where it is one, the step.
func TestSecretNeverSaid(t *testing.T) {
	t.Parallel()
	const step, stage = `stage "main", step 2 (`, `stage "main": `
	for name, test := range map[string]struct {
		steps, more string
		code        int
		place       string
	}{
		"file name":         {"- {run: 'touch \"/opt/$(cat /run/secrets/tok)\"', secrets: [tok]}", "", 6, step},
		"directory":         {"- {run: 'mkdir \"/opt/$(cat /run/secrets/tok)\" && touch \"/opt/$(cat /run/secrets/tok)/f\"', secrets: [tok]}", "", 6, step},
		"link target":       {"- {run: 'ln -s \"$(cat /run/secrets/tok)\" /opt/l', secrets: [tok]}", "", 6, step},
		"hex":               {"- {run: 'od -An -v -tx1 /run/secrets/tok | tr -d \" \\n\" >/opt/hex', secrets: [tok]}", "", 6, step},
		"name, then failed": {"- {run: 'touch \"/opt/$(cat /run/secrets/tok)\"; exit 9', secrets: [tok]}", "", 4, step},
		"copy destination":  {"- {file: '/opt/${X}', content: x}", "", 6, step},
		"missing source":    {"- {copy: '${X}', to: /opt/}", "", 3, step},
		"mount source":      {"- {run: 'true', mounts: [{type: bind, source: '${X}', target: /m}]}", "", 3, step},
		"mount target":      {"- {run: 'false', mounts: [{type: tmpfs, target: '/m/${X}'}]}", "", 4, step},
		"user":              {"- {run: 'true', user: '${X}'}", "", 3, step},
		"argv":              {"- {run: ['false', 'VALUE']}", "", 4, step},
		"argv, shortened":   {"- {run: ['false', '0123456789012345678901234567890123456789012345678901234567', 'VALUE']}", "", 4, step},
		"no such command":   {"- {run: ['VALUE']}", "", 4, step},
		"workdir":           {"- {workdir: '/opt/${X}'}", "", 6, step},
		"variable":          {"- {env: {T: '${X}'}}", "", 6, step},
		"history":           {"- {run: ['true', 'VALUE']}", "", 6, step},
		"label":             {"- {run: 'true'}", "labels: {l: '${X}'}", 6, stage},
		"variable of stage": {"- {run: 'true'}", "env: {T: '${X}'}", 6, stage},
	} {
		for _, progress := range []string{"plain", "json"} {
			t.Run(name+" "+progress, func(t *testing.T) {
				t.Parallel()
				b := newSecretBuild(t, "      "+test.steps+"\n")
				b.value = "name-of-" + nonce()
				b.env = []string{"TOK=" + b.value}
				b.search.Value, b.search.Dirs = b.value, []string{b.store} // the recipe has it, too
				text := strings.ReplaceAll(b.read("pdibuild.yaml"), "VALUE", b.value)
				if test.more != "" {
					text = strings.ReplaceAll(text, "    env: {RUN_ID: "+b.nonce+"}\n", "    "+test.more+"\n")
				}
				b.recipe(strings.Replace(text, "secrets:\n", "args: {X: ''}\nsecrets:\n", 1))
				meta := filepath.Join(b.dir, "meta")
				o := b.build("--progress", progress, "--build-arg", "X="+b.value, "--metadata-file", meta)
				place := test.place
				if progress == "json" {
					place = strings.ReplaceAll(place, `"`, `\"`)
				}
				o.fails(test.code, place)
				b.search.wantAbsent(t, "after the build")
				if strings.Contains(test.steps, "touch") {
					o.says("its container was not kept because it held a secret", "-run.log")
					b.run("shell", "--failed", "--storage-root", b.store, b.dir).says("was not kept because it held a secret")
				}
			})
		}
	}
}

// TestSecretNotPushed: nothing that a registry gets has the value.
func TestSecretNotPushed(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	addr := registry.Start(t, registry.Options{})
	b := newSecretBuild(t, `
      - run: sha256sum < /run/secrets/tok > /opt/sum
        secrets: [{id: tok, env: TOKEN}]
`)
	name := addr + "/secret:1"
	b.build("-t", name, "--push", "--tls-verify=false").ok()
	dir := filepath.Join(t.TempDir(), "pulled")
	judge(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-decompress", "docker://"+name, "dir:"+dir)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 4 { // version, manifest, config, layers
		t.Fatalf("skopeo has pulled %d files, %v", len(files), err)
	}
	s := search{Value: b.value, Since: b.search.Since, Dirs: append(b.search.Dirs, dir), Not: b.search.Not}
	s.wantAbsent(t, "after the push")
	s.Value = sha256Hex(b.value) // the layer is there, and the search sees its content
	if len(s.find(t)) == 0 {
		t.Error("the search does not see what the step has written")
	}
}

// TestSecretMissing: a required secret that is not given is asked for before
// anything is built; an optional one is not.
func TestSecretMissing(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - run: test ! -e /run/secrets/tok
        secrets: [tok]
`)
	o := b.project.build()
	if o.code != 2 && o.code != 3 {
		t.Errorf("exit code %d, want 2 or 3", o.code)
	}
	o.says("tok", "hint", "--secret id=tok,env=", "--secret id=tok,src=")
	b.recipe(strings.Replace(b.read("pdibuild.yaml"), "tok: {}", "tok: {optional: true}", 1))
	b.project.build().ok().says("tok", "run without it")
}

// TestSecretNotInKeys: another value of the secret does not run the step again.
func TestSecretNotInKeys(t *testing.T) {
	t.Parallel()
	b := newSecretBuild(t, `
      - run: test -s /run/secrets/tok
        secrets: [tok]
`)
	first := b.build().ok()
	b.env = []string{fmt.Sprintf("TOK=another-%s", nonce())}
	second := b.build().ok()
	if second.ImageID != first.ImageID || second.Executed != 0 {
		t.Errorf("with another value %d steps ran, id %s, want none and %s", second.Executed, second.ImageID, first.ImageID)
	}
}
