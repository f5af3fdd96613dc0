package ownership

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// realBootstrap switches the test on that bootstraps Debian from a mirror; its
// value is the mirror, or 1 for mmdebstrap's own choice.
const realBootstrap = "PDIBUILD_TEST_BOOTSTRAP"

// devices of the host that packages' scripts use; they can't be made here.
const devices = "null zero full random urandom tty"

// A whole Debian gets the owners and modes that it has when root makes it.
// These are all the files of its minimal system that are not root:root.
func TestMmdebstrap(t *testing.T) {
	mirror := os.Getenv(realBootstrap)
	if mirror == "" {
		t.Skipf("SKIPPED, NOT TESTED: set %s=1 to bootstrap a Debian from the network", realBootstrap)
	}
	need(t, "mmdebstrap")
	s, root := start(t, Options{}), filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{filepath.Dir(root), filepath.Dir(filepath.Dir(root))} {
		if err := os.Chmod(dir, 0o755); err != nil { // gpgv of apt wants to read there
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=chroot/mount/dev,cleanup/apt",
		`--aptopt=APT::Sandbox::User "root"`,
		`--setup-hook=set -e; mkdir -p "$1/dev"; for n in `+devices+`; do : >"$1/dev/$n"; mount --bind /dev/$n "$1/dev/$n"; done`,
		`--customize-hook=chroot "$1" chown _apt:root /var/cache/apt/archives/partial /var/lib/apt/lists/partial`,
		`--customize-hook=for n in `+devices+`; do umount "$1/dev/$n"; rm "$1/dev/$n"; done`,
		"bookworm", root)
	if mirror != "1" {
		cmd.Args = append(cmd.Args, mirror)
	}
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1767225600", "TMPDIR=/tmp", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	if out, err := runOutput(s, cmd); err != nil {
		t.Fatalf("%v\n%s\nrefused: %q", err, out, s.Refused())
	}
	want := map[string]string{
		"etc/shadow": "640 0:42", "etc/gshadow": "640 0:42",
		"usr/bin/chage": "2755 0:42", "usr/bin/expiry": "2755 0:42", "usr/sbin/unix_chkpwd": "2755 0:42",
		"var/cache/apt/archives/partial": "700 42:0", "var/lib/apt/lists/partial": "700 42:0",
		"var/local": "2775 0:50", "var/mail": "2775 0:8",
		"var/log/btmp": "660 0:43", "var/log/lastlog": "664 0:43", "var/log/wtmp": "664 0:43",
	}
	got := notRoots(t, s, root)
	if !maps.Equal(got, want) {
		t.Errorf("files that are not root's:\n%v\nwant:\n%v", got, want)
	}
}

// notRoots maps the files below root with a recorded owner to mode and owner.
func notRoots(t *testing.T, s *Supervisor, root string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		uid, gid, ok, err := s.Owner(path)
		if err != nil || !ok {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		found[name] = fmt.Sprintf("%o %d:%d", st.Mode&0o7777, uid, gid)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
