//go:build integration

package integration

import "testing"

// A command has the groups that /etc/group gives its user, and no others,
// whoever builds or runs it: the answer is in the image, which is the same.
func TestGroupsOfUser(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `
  - name: final
    from: small
    steps:
      - run: |
          echo 'app:x:1001:50:App:/:/bin/sh' >>/etc/passwd
          printf '%s\n' 'staff:x:50:' 'video:x:44:root,app' 'scratch:x:77:other,app' 'wheel:x:10:root' >>/etc/group
          mkdir -m 777 /ids
      - {run: id >/ids/root}
      - {run: id >/ids/app, user: app}
      - {run: id >/ids/group, user: "app:video"}
      - {run: id >/ids/number, user: "1001"}
      - {run: id >/ids/unknown, user: "4321:77"}
`)
	const app = "uid=1001(app) gid=50(staff) groups=44(video),50(staff),77(scratch)"
	const root = "uid=0(root) gid=0(root) groups=0(root),10(wheel),44(video)"
	o := p.build("--no-cache").ok()
	for file, want := range map[string]string{
		"root": root, "app": app, "number": app, "group": "uid=1001(app) gid=44(video) groups=44(video)", "unknown": "uid=4321 gid=77(scratch) groups=77(scratch)",
	} {
		p.in("run", o.ImageID, "--", "cat", "/ids/"+file).prints(want + "\n")
	}
	tell(t, "groups", o.ImageID)
	p.in("run", "--user", "app", o.ImageID, "--", "id").prints(app + "\n")
	p.in("run", "-v", t.TempDir()+":/v", "--user", "1001", o.ImageID, "--", "sh", "-c", `id -G | tr " " "\n" | sort -n | tr "\n" " "`).prints("44 50 77 ")
	p.in("shell", o.ImageID, "--", "id").prints(root + "\n")
}
