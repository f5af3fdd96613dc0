package ownership

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetAndOwner(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		uid, gid int
		ok       bool
	}{{1, 42, true}, {0, 42, true}, {0, 0, false}, {0, 0, false}, {maxID, maxID, true}}
	for _, step := range steps {
		if err := Set(file, step.uid, step.gid); err != nil {
			t.Fatal(err)
		}
		if uid, gid, ok, err := Owner(file); err != nil || uid != step.uid || gid != step.gid || ok != step.ok {
			t.Errorf("after Set(%d, %d): Owner() = %d, %d, %t, %v", step.uid, step.gid, uid, gid, ok, err)
		}
	}
	if _, _, ok, err := Owner(link); ok || err != nil {
		t.Errorf("the link is followed: %t, %v", ok, err)
	}
}

func TestOwnerErrors(t *testing.T) {
	dir := t.TempDir()
	if _, _, _, err := Owner(filepath.Join(dir, "missing")); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
	for _, id := range []int{-1, maxID + 1} {
		if err := Set(dir, id, 0); err == nil {
			t.Errorf("Set with user %d succeeds", id)
		}
	}
	if err := unix.Setxattr(dir, XattrName, []byte("nobody"), 0); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Owner(dir); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a value that is no owner: %v", err)
	}
}

func TestParseOwner(t *testing.T) {
	for value, ok := range map[string]bool{
		"0:42": true, "4294967294:1": true,
		"": false, "1": false, "1:": false, ":1": false, "1:2:3": false, "-1:0": false, "+1:0": false, "01:0": false,
		"4294967295:0": false, "1:2\n": false, "1 :2": false, "0x1:2": false,
	} {
		if _, _, err := ParseOwner(value); (err == nil) != ok {
			t.Errorf("ParseOwner(%q): %v", value, err)
		}
	}
}

func FuzzParseOwner(f *testing.F) {
	for _, value := range []string{"0:42", "4294967294:0", "1", "-1:0", "1:2:3", "\x00"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		uid, gid, err := ParseOwner(value)
		if err == nil && formatOwner(uint32(uid), uint32(gid)) != value {
			t.Errorf("%q reads as %d:%d", value, uid, gid)
		}
	})
}
