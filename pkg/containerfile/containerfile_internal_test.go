package containerfile

import "testing"

// What a file step makes above its file belongs to the file's owner.
func TestMakeParents(t *testing.T) {
	for _, c := range []struct{ file, owner, want string }{
		{"/srv/app/etc/x", "0:0", "mkdir -p /srv/app/etc"},
		{"/etc/x", "7:0", "mkdir -p /etc"},
		{"/x", "7:0", "mkdir -p /"},
		{"/srv/a b/etc/x", "7:0", `for d in '/srv/a b' '/srv/a b/etc'; do [ -d "$d" ] || { mkdir "$d" && chown 7:0 "$d"; } || exit; done`},
	} {
		if got := makeParents(c.file, c.owner); got != c.want {
			t.Errorf("%s of %s: %s\nwant %s", c.file, c.owner, got, c.want)
		}
	}
}
