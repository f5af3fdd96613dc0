//go:build integration

package differential

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A user is one that builds; see namespace_test.go.
type user struct {
	name string
	uid  int
}

var (
	root   = user{"root", 0}
	sub    = user{"differential-sub", 987654}
	single = user{"differential-single", 987655}
)

// A way is who builds, and with which storage driver.
type way struct {
	user   user
	driver string
}

func (w way) String() string { return w.user.name + "/" + w.driver }

// firstWay is compared with the judge, and all others with it.
var (
	firstWay  = way{root, "overlay"}
	otherWays = []way{{root, "vfs"}, {sub, "overlay"}, {sub, "vfs"}, {single, "overlay"}, {single, "vfs"}}
)

// A builder is the program with a store of its own.
type builder struct {
	way
	dir string
	// used counts the images in the store.
	used int
}

const baseRecipe = `version: 1
name: ` + baseImage + `
stages:
  - name: final
    from: scratch
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: [/bin/busybox, --install, -s, /bin]
      - run: |-
          mkdir -p /tmp /etc /root /w /dev /proc /sys /run /var/tmp && chmod 1777 /tmp /var/tmp
          echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd && echo 'root:x:0:' >/etc/group
          touch /etc/hosts /etc/resolv.conf /etc/hostname /run/.containerenv
    env: {PATH: /bin}
    cmd: [/bin/sh]
`

// open makes the store where it does not exist, with the base image from the
// context base.
func (b *builder) open(base string) error {
	if b.used > 0 {
		return nil
	}
	for _, dir := range []string{b.dir, b.path("home"), b.path("tmp")} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, b.user.uid, b.user.uid)); err != nil {
			return err
		}
	}
	if out, code, err := b.run("build", base); err != nil || code != 0 {
		return fmt.Errorf("%s: build the base image: exit code %d: %w\n%s", b.way, code, err, out)
	}
	b.used = 1
	return nil
}

func (b *builder) path(name string) string { return filepath.Join(b.dir, name) }

// run runs a verb of the program as the user, and returns what it prints.
func (b *builder) run(verb string, args ...string) (out string, code int, err error) {
	cmd := exec.Command(program, append([]string{verb, "--storage-root", b.path("store"), "--storage-driver", b.driver}, args...)...)
	if verb == "containerfile" {
		cmd = exec.Command(program, append([]string{verb}, args...)...)
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.path("home"), "TMPDIR=" + b.path("tmp"), "USER=" + b.user.name}
	cmd.Dir = b.path("home")
	if b.user.uid != 0 {
		id := uint32(b.user.uid) //nolint:gosec // a constant above
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return stderr.String(), exit.ExitCode(), nil
	}
	return stdout.String(), 0, err
}

// build builds the recipe. out is an OCI layout for the image, or "" when its
// id is enough.
func (b *builder) build(recipe, context, out string) (*outcome, error) {
	args := []string{"-q", "--isolation", "chroot", "--file", recipe}
	if out != "" {
		args = append(args, "--output", "type=oci,dest="+out)
	}
	b.used++
	text, code, err := b.run("build", append(args, context)...)
	switch {
	case err != nil:
		return nil, err
	case code == 3 || code == 4:
		return &outcome{way: b.way, refusal: fmt.Sprintf("exit code %d: %s", code, text)}, nil
	case code != 0:
		return nil, fmt.Errorf("%s: exit code %d: %s", b.way, code, text)
	}
	o := &outcome{way: b.way, id: strings.TrimSpace(text)}
	if out != "" {
		if o.image, err = readImage(out); err != nil {
			return nil, fmt.Errorf("read pdibuild's image: %w", err)
		}
	}
	return o, nil
}
