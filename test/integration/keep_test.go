//go:build integration

package integration

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/busybox"
)

// smallBase is a stage with a shell and accounts that takes no time to make.
const smallBase = `version: 1
stages:
  - name: small
    from: scratch
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: [/bin/busybox, --install, -s, /bin]
      - run: mkdir -p /tmp /etc /root && chmod 1777 /tmp && echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd && echo 'root:x:0:' >/etc/group
    env: {PATH: /bin}
`

// newSmall makes a project whose recipe continues smallBase.
func newSmall(t *testing.T, stages string) *project {
	t.Helper()
	program, err := os.ReadFile(busybox.Find(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newProject(t, smallBase+stages)
	p.write("busybox", string(program))
	return p
}

// exportEverywhere builds the project in a store of the host's usual driver and
// in one of vfs, wants the same image from both, and writes its id down for the
// comparison with other users.
func (p *project) exportEverywhere(name string) *ociImage {
	p.t.Helper()
	p.nonce = name
	img, o := p.export()
	p.freshStore()
	if copied := p.build("--storage-driver", "vfs").ok(); copied.ImageID != o.ImageID {
		p.t.Errorf("with vfs it is image %s, want %s", copied.ImageID, o.ImageID)
	}
	tell(p.t, name, o.ImageID)
	return img
}

// A file whose name would be a whiteout in a layer never removes another one:
// it is refused, whatever it is and whoever makes it.
func TestReservedNamesAreRefused(t *testing.T) {
	t.Parallel()
	for command, name := range map[string]string{
		"touch /r/.wh.victim":                               "/r/.wh.victim",
		"echo x >/r/.wh.victim":                             "/r/.wh.victim",
		"mkdir /r/.wh.victim":                               "/r/.wh.victim",
		"mkdir /r/.wh.d && touch /r/.wh.d/f":                "/r/.wh.d",
		"ln -s x /r/.wh.victim":                             "/r/.wh.victim",
		"ln /r/victim /r/.wh.victim":                        "/r/.wh.victim",
		"touch /r/.wh.x && ln /r/.wh.x /r/a":                "/r/.wh.x",
		"mkfifo /r/.wh.victim":                              "/r/.wh.victim",
		"touch /r/.wh..wh..opq":                             "/r/.wh..wh..opq",
		"mkdir /r/.wh..wh.plnk":                             "/r/.wh..wh.plnk",
		"touch /.wh.":                                       "/.wh.",
		"rm /r/victim && touch /r/.wh.victim":               "/r/.wh.victim",
		"rm -r /r && mkdir /r && touch /r/.wh.other":        "/r/.wh.other",
		"touch /r/x && mv /r/x /r/.wh.victim && touch /r/x": "/r/.wh.victim",
	} {
		for _, driver := range []string{"overlay", "vfs"} {
			if driver == "vfs" && !strings.Contains(command, "touch") {
				continue // an entry of any other kind is known to be no whiteout
			}
			t.Run(driver+" "+command, func(t *testing.T) {
				p := newSmall(t, "  - name: final\n    from: small\n    steps:\n      - run: mkdir /r && echo imp >/r/victim\n      - run: "+command+" # NONCE\n")
				if driver == "vfs" {
					p.store = vfsStore(t)
				}
				p.build("--storage-driver", driver).fails(4, fmt.Sprintf("%q cannot be in an image", name), "let the step remove the file")
			})
		}
	}
	for _, step := range []string{"{copy: ctx, to: /r}", "{copy: ctx/.wh.victim, to: /r/}", "{copy: 'ctx/.wh*', to: /r/}"} {
		p := newSmall(t, "  - name: final\n    from: small\n    steps:\n      - run: mkdir /r && echo imp >/r/victim\n      - "+step+"\n")
		p.write("ctx/.wh.victim", "")
		p.build().fails(3, `"/r/.wh.victim" cannot be in an image`, "leave it out")
		p.write(".dockerignore", "**/.wh.*\n")
	}
}

// vfsStore is a store that the tests of a test function share.
func vfsStore(t *testing.T) string {
	dir := filepath.Join(storeRoot, "store-vfs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a command does to the root directory stays in the image, and is said
// only in the layers that change it.
func TestRootDirectory(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: changed
    from: small
    steps:
      - run: touch /a
      - run: chmod 711 / && chown 5:6 /
      - run: test "$(stat -c %a,%u,%g /)" = 711,5,6 && touch /b
      - {file: /c, content: x}
      - run: test "$(stat -c %a,%u,%g /)" = 711,5,6 && rm /b
      - run: chmod 711 / && chown 5:6 /
  - name: final
    from: changed
    steps:
      - run: test "$(stat -c %a,%u,%g /)" = 711,5,6 && chmod 1777 /
      - workdir: /w
      - check: test "$(stat -c %a,%u,%g /)" = 1777,5,6
`)
	img := p.exportEverywhere("root")
	var roots []string
	for _, l := range img.layers {
		if e, ok := l["/"]; ok {
			roots = append(roots, fmt.Sprintf("%s %o %d:%d", e.Name, e.Mode, e.Uid, e.Gid))
		}
	}
	if got := strings.Join(roots, ", "); got != "./ 711 5:6, ./ 1777 5:6" {
		t.Errorf("entries of the root directory: %s", got)
	}
	// Another store gets it from the layers.
	p.nonce = nonce()
	dir := filepath.Join(t.TempDir(), "oci")
	p.build("-o", "type=oci,dest="+dir).ok()
	p.recipe("version: 1\nstages:\n  - name: s\n    from: 'oci:" + dir + "'\n    steps:\n      - run: test \"$(stat -c %a,%u,%g /)\" = 1777,5,6 && touch /made\n      - run: test \"$(stat -c %a,%u,%g /)\" = 1777,5,6\n")
	p.freshStore()
	again, _ := p.export()
	if _, ok := again.layers[len(again.layers)-1]["/"]; ok {
		t.Error("a layer that does not change the root directory has it")
	}
	p.freshStore()
	p.build("--storage-driver", "vfs").ok()
}

// A working directory belongs to the user of the steps that follow, with the
// directories above it that were missing.
func TestWorkdirBelongsToTheUser(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    workdir: /srv/a/b
    steps:
      - run: mkdir /opt
      - workdir: /opt/roots
      - user: {name: app, uid: 1001, gid: 50}
      - user: app
      - workdir: /opt/work/x
      - run: touch x && mkdir ../y # NONCE
      - workdir: rel
      - workdir: /tmp
      - user: "1234:77"
      - workdir: /opt/number
      - workdir: /etc
      - user: app
`)
	img := p.exportEverywhere("workdir")
	for name, owner := range map[string]string{
		"/opt": "0:0", "/opt/roots": "0:0", "/opt/work": "1001:50", "/opt/work/x": "1001:50", "/opt/work/x/x": "1001:50", "/opt/work/y": "1001:50",
		"/opt/work/x/rel": "1001:50", "/opt/number": "1234:77", "/tmp": "0:0", "/etc": "0:0", "/srv": "1001:50", "/srv/a": "1001:50", "/srv/a/b": "1001:50",
	} {
		if e := img.file(name); fmt.Sprintf("%d:%d", e.Uid, e.Gid) != owner {
			t.Errorf("%s belongs to %d:%d, want %s", name, e.Uid, e.Gid, owner)
		}
	}
}

// A user that the image has stays as it is: a recipe that wants another one is
// wrong.
func TestUserThatExists(t *testing.T) {
	t.Parallel()
	const before = "  - name: final\n    from: small\n    steps:\n      - run: echo 'app:x:1001:50:App:/srv/app:/bin/ash' >>/etc/passwd && echo 'crew:x:70:' >>/etc/group\n      - user: "
	for user, wrong := range map[string]string{
		"{name: app, uid: 1002, gid: 50}":                                  "uid 1001 instead of 1002",
		"{name: app, uid: 1001, gid: 1001, home: /home/app}":               "gid 50 instead of 1001 and home /srv/app instead of /home/app",
		"{name: app, uid: 1001}":                                           "gid 50 instead of 1001",
		"{name: app, uid: 1001, gid: 50, shell: /bin/sh}":                  "shell /bin/ash instead of /bin/sh",
		"{name: crew, uid: 1003}":                                          "gid 70 instead of 1003",
		"{name: app, uid: 1001, gid: 50}":                                  "",
		"{name: app, uid: 1001, gid: 50, home: /srv/app, shell: /bin/ash}": "",
		"{name: crew, uid: 1003, gid: 70}":                                 "",
	} {
		p := newSmall(t, before+user+"\n")
		if wrong != "" {
			p.build().fails(3, wrong, "use another name")
			continue
		}
		img, _ := p.export()
		name := strings.TrimRight(strings.Fields(user)[1], ",")
		if passwd := img.file("/etc/passwd").content; strings.Count("\n"+passwd, "\n"+name+":") != 1 {
			t.Errorf("%s: /etc/passwd is\n%s", user, passwd)
		}
		if home, ok := img.files()["/home/app"]; ok {
			t.Errorf("%s: there is a second home: %v", user, home.Name)
		}
	}
}

// Where the accounts are behind a link, as in images that are run read-only, the
// link stays and the new account is behind it.
func TestUserWhereAccountsAreLinks(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: mkdir -p /usr/share/accounts && mv /etc/passwd /usr/share/accounts/ && ln -s ../usr/share/accounts/passwd /etc/passwd
      - user: {name: app, uid: 1001}
`)
	img, _ := p.export()
	if passwd := img.file("/etc/passwd"); passwd.Typeflag != tar.TypeSymlink {
		t.Errorf("/etc/passwd is no link any more: %c", passwd.Typeflag)
	}
	if accounts := img.file("/usr/share/accounts/passwd").content; !strings.Contains(accounts, "app:x:1001:") {
		t.Errorf("the accounts are\n%s", accounts)
	}
}

// Of a variable that a base image sets twice, the last value counts.
func TestBaseWithVariableTwice(t *testing.T) {
	t.Parallel()
	h := newHandmade(t).layer(of(file("etc/os-release", "")))
	h.settings = map[string]any{"Env": []string{"A=1=2", "EMPTY=", "PATH=/nowhere", "PATH=/bin", "NOEQ", "A=dup"}}
	p := newProject(t, "")
	program, err := os.ReadFile(busybox.Find(t))
	if err != nil {
		t.Fatal(err)
	}
	p.write("busybox", string(program))
	p.recipe(`version: 1
stages:
  - name: final
    from: '` + h.reference() + `'
    env: {B: "b=${A}"}
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: [/bin/busybox, sh, -c, 'test "$A,$B,${EMPTY-unset}" = "dup,b=dup," # NONCE']
      - env: {A: "new=${A}"}
      - run: [/bin/busybox, sh, -c, 'test "$A" = new=dup']
`)
	img, o := p.export()
	if got, want := strings.Join(img.config.Config.Env, " "), "EMPTY= PATH=/bin A=new=dup B=b=dup"; got != want {
		t.Errorf("the image's environment is %q, want %q", got, want)
	}
	ran := p.run("run", "--storage-root", p.store, "-e", "EMPTY=full", o.ImageID, "--", "/bin/busybox", "sh", "-c", "echo $A $EMPTY")
	if ran.stdout != "new=dup full\n" {
		t.Errorf("run prints %q\n%s", ran.stdout, ran.stderr)
	}
}

// A base image in which a file belongs to an id that is none is refused: the
// storage library would give the file to another user.
func TestBaseWithStrangeOwners(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		uid, gid int
		wrong    string
	}{
		"large": {uid: 1 << 32, wrong: `"etc/f" belongs to 4294967296:0`},
		"last":  {gid: 1<<32 - 1, wrong: `"etc/f" belongs to 0:4294967295`},
		"none":  {uid: -1, wrong: `"etc/f" belongs to -1:0`},
	} {
		t.Run(name, func(t *testing.T) {
			hdr := file("etc/f", "x")
			hdr.Uid, hdr.Gid, hdr.Format = c.uid, c.gid, tar.FormatGNU
			h := newHandmade(t).layer(of(file("a", ""))).layer(of(hdr))
			p := newProject(t, "version: 1\nstages:\n  - {name: s, from: '"+h.reference()+"', steps: [{file: /NONCE, content: x}]}\n")
			p.freshStore()
			p.build().fails(3, c.wrong)
			p.build().fails(3, c.wrong) // the image is in the store now
		})
	}
}

// What Docker's configuration has beyond OCI's stays: the health check and the
// shell, which also runs the steps. Triggers are not run, and the build says so.
func TestBaseOfDocker(t *testing.T) {
	t.Parallel()
	h := newHandmade(t).layer(of(file("etc/os-release", "")))
	h.settings = map[string]any{
		"Healthcheck": map[string]any{"Test": []string{"CMD-SHELL", "true"}, "Interval": 30_000_000_000, "Retries": 3},
		"Shell":       []string{"/bin/busybox", "sh", "-xc"}, "OnBuild": []string{"COPY . /app", "RUN make"},
	}
	p := newProject(t, `version: 1
stages:
  - name: first
    from: '`+h.reference()+`'
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: /bin/busybox echo NONCE
  - name: final
    from: first
    steps:
      - run: /bin/busybox touch /made
    cmd: /bin/busybox true
  - name: other
    from: first
    shell: [/bin/busybox, sh, -ec]
    cmd: /bin/busybox true
`)
	program, err := os.ReadFile(busybox.Find(t))
	if err != nil {
		t.Fatal(err)
	}
	p.write("busybox", string(program))
	img, o := p.export("--target", "final")
	o.says("ONBUILD triggers, which are not run", `"COPY . /app" "RUN make"`, "first | +") // of its trace, which runc mixes with the output
	if strings.Count(o.stderr, "ONBUILD") != 1 {
		t.Errorf("it is not said once:\n%s", o.stderr)
	}
	c := img.config.Config
	if c.Healthcheck == nil || !slices.Equal(c.Healthcheck.Test, []string{"CMD-SHELL", "true"}) || len(c.OnBuild) != 0 {
		t.Errorf("health check %v, triggers %q", c.Healthcheck, c.OnBuild)
	}
	if got := strings.Join(append(c.Shell, c.Cmd...), " "); got != "/bin/busybox sh -xc /bin/busybox sh -xc /bin/busybox true" {
		t.Errorf("shell and command are %q", got)
	}
	other, _ := p.export("--target", "other")
	c = other.config.Config
	if got := strings.Join(append(c.Shell, c.Cmd...), " "); got != "/bin/busybox sh -ec /bin/busybox sh -ec /bin/busybox true" {
		t.Errorf("shell and command are %q where the stage has its own", got)
	}
	needTool(t, "skopeo")
	archive := filepath.Join(t.TempDir(), "image.tar")
	p.build("--target", "final", "-o", "docker-archive:"+archive).ok()
	if config := judge(t, "skopeo", "inspect", "--config", "--raw", "docker-archive:"+archive); !strings.Contains(config, `"Healthcheck":{"Test":["CMD-SHELL","true"]`) {
		t.Errorf("skopeo reads %s", config)
	}
}

// Accounts of a site with large groups are found, and ids that are none are
// refused wherever they come from.
func TestAccountsOfTheImage(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: |
          m=$(seq -s , -f somebody%06g 9000); echo "hpc:x:5000:$m,app" >>/etc/group; echo tail:x:5001: >>/etc/group
          echo app:x:1001:5001::/:/bin/sh >>/etc/passwd; echo huge:x:4294967296:0::/:/bin/sh >>/etc/passwd # NONCE
      - run: test "$(id -u),$(id -g)" = 1001,5001
        user: "app:tail"
`)
	o := p.build().ok()
	if ran := p.run("run", "--storage-root", p.store, "--user", "app:tail", o.ImageID, "--", "id", "-g"); ran.stdout != "5001\n" {
		t.Errorf("id prints %q\n%s", ran.stdout, ran.stderr)
	}
	for user, wrong := range map[string]string{"huge": `"4294967296" is not a user or group id`, "4294967295": `"4294967295" is not a user or group id`, "0:4294967296": `"4294967296" is not`, "-1": `no user "-1"`} {
		if ran := p.run("run", "--storage-root", p.store, "--user="+user, o.ImageID, "--", "id"); ran.code != 2 || !strings.Contains(ran.stderr, wrong) {
			t.Errorf("--user=%s ends with %d, want 2 and %q\n%s", user, ran.code, wrong, ran.stderr)
		}
	}
}

// Symbolic links and pipes keep their owners through later steps, whatever is
// done to them, also where they can be given to nobody: with a single id, and
// there is the same image for every user and driver.
func TestOwnersOfLinks(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: made
    from: small
    steps:
      - run: |
          set -e
          mkdir -p /opt/app/lib; cd /opt/app
          ln -s lib lib64; mkfifo pipe; for l in moved given back gone again copied plain; do ln -s x $l; done
          ln -s odd "$(printf 'odd\nname\377')"
          chown -R 1000:1000 /opt/app; chown -h 1000:1001 lib64 moved given back gone again copied odd*
  - name: final
    from: made
    steps:
      - run: mv /opt/app /opt/app-2.0
      - run: |
          set -e
          cd /opt/app-2.0; test "$(stat -c %u:%g lib64 pipe moved odd* | tr '\n' ' ')" = "1000:1001 1000:1000 1000:1001 1000:1001 "
          mv moved /opt/elsewhere; mv pipe lib/pipe2; rm gone again; ln -s x again
          cp -a copied /opt/copied; tar cf /tmp/t plain lib; mkdir /opt/tar; tar xf /tmp/t -C /opt/tar; rm /tmp/t
      - run: chown -h 0:0 /opt/app-2.0/back
      - run: chown -h 7:8 /opt/app-2.0/given
      - run: ln -s new /opt/app-2.0/new && mv /opt/app-2.0/lib64 /opt/app-2.0/lib65
        user: "1000:1000"
      - run: |
          cd /opt; test "$(stat -c %u:%g app-2.0/back app-2.0/given app-2.0/new app-2.0/lib65 copied tar/plain | tr '\n' ' ')" = "0:0 7:8 1000:1000 1000:1001 1000:1001 1000:1000 "
          rm -r tar; mkdir tar; ln -s y tar/plain
      - check: test "$(stat -c %u:%g /opt/tar/plain /opt/elsewhere | tr '\n' ' ')" = "0:0 1000:1001 "
`)
	img := p.exportEverywhere("links")
	for name, owner := range map[string]string{
		"/opt/app-2.0/lib65": "1000:1001", "/opt/app-2.0/lib/pipe2": "1000:1000", "/opt/elsewhere": "1000:1001", "/opt/app-2.0/again": "0:0",
		"/opt/app-2.0/back": "0:0", "/opt/app-2.0/given": "7:8", "/opt/app-2.0/new": "1000:1000", "/opt/copied": "1000:1001",
		"/opt/app-2.0/plain": "1000:1000", "/opt/tar/plain": "0:0", "/opt/app-2.0/odd\nname\xff": "1000:1001",
	} {
		if e := img.file(name); fmt.Sprintf("%d:%d", e.Uid, e.Gid) != owner {
			t.Errorf("%q belongs to %d:%d, want %s", name, e.Uid, e.Gid, owner)
		}
	}
	// A base image brings them along, and a container shows them.
	p.nonce = nonce()
	dir := filepath.Join(t.TempDir(), "oci")
	p.build("-o", "type=oci,dest="+dir).ok()
	p.recipe("version: 1\nstages:\n  - name: s\n    from: 'oci:" + dir + "'\n    steps:\n      - run: mv /opt/elsewhere /opt/there && cp -a /opt/copied /opt/copied2\n")
	p.freshStore()
	again, o := p.export()
	for _, name := range []string{"/opt/there", "/opt/copied2"} {
		if e := again.file(name); e.Uid != 1000 || e.Gid != 1001 {
			t.Errorf("%s belongs to %d:%d, want 1000:1001", name, e.Uid, e.Gid)
		}
	}
	if ran := p.run("run", "--storage-root", p.store, o.ImageID, "--", "stat", "-c", "%u:%g", "/opt/there"); ran.stdout != "1000:1001\n" {
		t.Errorf("stat prints %q\n%s", ran.stdout, ran.stderr)
	}
}
