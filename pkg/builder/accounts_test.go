package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// accountView is a root with these accounts.
func accountView(t *testing.T, passwd, group string) *rootView {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &rootView{Root: openRoot(t, root)}
}

func openRoot(t *testing.T, dir string) *rootfs.Root {
	t.Helper()
	r, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A group of a large site has a line of more than 64 KiB.
func TestOwnerBehindLongLine(t *testing.T) {
	members := strings.Repeat("somebody,", 20000)
	v := accountView(t,
		"root:x:0:0::/root:/bin/sh\nlong:x:1:1:"+members+":/:/bin/sh\napp:x:1001:5001::/home/app:/bin/sh\r\n",
		"hpc:x:5000:"+members+"app\ntail:x:5002:\n")
	if uid, gid, err := v.owner("app:tail"); err != nil || uid != 1001 || gid != 5002 {
		t.Errorf("app:tail is %d:%d, %v", uid, gid, err)
	}
	if home, err := v.home("app"); err != nil || home != "/home/app" {
		t.Errorf("home of app: %q, %v", home, err)
	}
	if groups, err := v.groups("app"); err != nil || len(groups) != 1 || groups[0] != 5000 {
		t.Errorf("groups of app: %v, %v", groups, err)
	}
}

func TestOwnerIsAnID(t *testing.T) {
	v := accountView(t,
		"big:x:4294967296:0::/:/bin/sh\nnone:x:5:4294967295::/:/bin/sh\nword:x:five:5::/:/bin/sh\nlast:x:4294967294:4294967294::/:/bin/sh\nmember:x:7:7::/:/bin/sh\n",
		"huge:x:18446744073709551616:\nwheel:x:4294967295:member\n")
	for _, spec := range []string{
		"4294967296", "4294967295:0", "0:4294967295", "-1", "0:-1", "99999999999999999999999",
		"big", "none", "word", "5", "last:huge",
	} {
		uid, gid, err := v.owner(spec)
		if in := (*InputError)(nil); !errors.As(err, &in) {
			t.Errorf("%s is %d:%d, %v; want an input error", spec, uid, gid, err)
		}
	}
	for spec, want := range map[string]int{"last": 4294967294, "4294967294:4294967294": 4294967294, "0": 0} {
		if uid, gid, err := v.owner(spec); err != nil || uid != want || gid != want {
			t.Errorf("%s is %d:%d, %v; want %d", spec, uid, gid, err, want)
		}
	}
	if groups, err := v.groups("member"); err == nil {
		t.Errorf("groups of member: %v; want an error that names the group", groups)
	}
}
