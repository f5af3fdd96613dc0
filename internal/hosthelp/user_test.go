package hosthelp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRanges(t *testing.T) {
	file := write(t, "# comment\nalice:100000:65536\n1234:200000:1000\nalice2:1:1\n:5:5\nbad\nalice:300000:x\n")
	for _, test := range []struct {
		user User
		want uint64
	}{
		{User{ID: 7, Name: "alice"}, 65536},
		{User{ID: 1234, Name: "bob"}, 1000},
		{User{ID: 1234, Name: "alice"}, 66536},
		{User{ID: 9}, 0},
	} {
		if got := test.user.Ranges(file); got != test.want {
			t.Errorf("%+v: %d, want %d", test.user, got, test.want)
		}
	}
}

// Who runs this is read from the mapping of the namespace.
func TestMapping(t *testing.T) {
	for mapping, want := range map[string]User{
		"         0          0 4294967295\n": {ID: 7, IDs: 1<<32 - 1},
		"0 1001 1\n1 100000 65536\n":         {ID: 100006, IDs: 65537},
		"7 1001 1\n":                         {ID: 1001, IDs: 1},
		"0 1001 1\n":                         {ID: 7, IDs: 1, Unmapped: true},
		"":                                   {ID: 7, Unmapped: true},
	} {
		u := User{ID: 7}
		if u.read(mapping); u != want {
			t.Errorf("%q: %+v, want %+v", mapping, u, want)
		}
	}
}

// The command that an administrator gets can be pasted: it names the user, and
// gives ids that nobody has. usermod knows nobody who is not in /etc/passwd.
func TestGiveRange(t *testing.T) {
	taken := write(t, "bob:165536:65536\ncarol:100000:65536\ndave:300000:1\n")
	passwd := write(t, "root:x:0:0::/root:/bin/sh\nalice:x:7:7::/home/alice:/bin/sh\n")
	start := freeRange(readRanges(taken), rangeSize)
	if start != 231072 {
		t.Errorf("a free range begins at %d", start)
	}
	for want, u := range map[string]User{
		"usermod --add-subuids 231072-296607 --add-subgids 231072-296607 alice":                                            {ID: 7, Name: "alice"},
		"echo ada:231072:65536 | tee -a /etc/subuid /etc/subgid":                                                           {ID: 1_987_654_321, Name: "ada"},
		"useradd --no-create-home --uid 4242 NAME && usermod --add-subuids 231072-296607 --add-subgids 231072-296607 NAME": {ID: 4242},
	} {
		if got := u.giveRange(start, rangeSize, passwd); got != want {
			t.Errorf("%s: %s, want %s", u, got, want)
		}
	}
	if got := freeRange(nil, rangeSize); got != 100000 {
		t.Errorf("without any ranges it begins at %d", got)
	}
}

// A command that is to give one more id gives whole ranges of the usual size, and
// only as many as there are.
func TestGiveID(t *testing.T) {
	for id, want := range map[uint64]uint64{65_537: rangeSize, 131_072: rangeSize, 131_073: 2 * rangeSize, 205_001: 3 * rangeSize} {
		u := User{ID: 1, Name: "root", IDs: 65_537}
		var start, last uint64
		if _, err := fmt.Sscanf(u.GiveID(id), "usermod --add-subuids %d-%d", &start, &last); err != nil || last-start+1 != want {
			t.Errorf("id %d: %s, %v, want %d ids", id, u.GiveID(id), err, want)
		}
	}
	if got := (User{ID: 1, Name: "root", IDs: 65_537}).GiveID(1<<32 - 2); got != "" {
		t.Errorf("for nearly all ids: %s", got)
	}
}

// Each text that has the command gets it for the user.
func TestHelpIsPasted(t *testing.T) {
	u := User{ID: 4242, IDs: 1}
	for _, topic := range Topics() {
		h := For(topic)
		if got := h.pasted(u, u.GiveRange()).Admin; strings.Contains(h.Admin, "subuids") && (strings.Contains(got, "USER") || !strings.Contains(got, "4242 NAME")) {
			t.Errorf("%s: %s", topic, got)
		}
	}
	if got := For(SubordinateIDs).pasted(User{IDs: 1<<32 - 1}, "x").Admin; !strings.Contains(got, " USER'") {
		t.Errorf("root gets %q", got)
	}
}

// A chroot has a root that nothing is mounted at.
func TestInChroot(t *testing.T) {
	if inChroot(write(t, "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n24 22 0:5 / /proc rw - proc proc rw\n")) {
		t.Error("an ordinary root is a chroot")
	}
	if !inChroot(write(t, "24 22 0:5 / /proc rw - proc proc rw\n")) {
		t.Error("a chroot is not recognised")
	}
}
