//go:build integration

package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hugeTest makes TestLayersAreThoseOfBuildah take a file of more than 4 GiB
// along, which costs a minute and 20 GB of disk.
const hugeTest = "PDIBUILD_TEST_HUGE"

// changes of a tree that is in the layers below.
const strangeChanges = `set -e; cd /t; rm -rf d games; mkdir games; echo new > games/new; echo more >> file; rm hard; chmod 600 sparse; ln sym-target sym-hard 2>/dev/null || ln -sf /elsewhere sym; mv setuid moved`

// What buildah makes of the same tree is the judge: of a tree that is copied
// from stage to stage, and of a command's changes to it, each file has the same
// type, mode, owner, size, content, attributes and links.
func TestLayersAreThoseOfBuildah(t *testing.T) {
	t.Parallel()
	needTool(t, "buildah")
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: buildah makes devices, owners and attributes as it should for root alone")
	}
	huge := ""
	if os.Getenv(hugeTest) != "" {
		huge = "\n      - run: truncate -s 4294967297 /t/huge; echo end >> /t/huge"
	}
	p := newProject(t, `version: 1
stages:
  - name: made
    from: BASE
    steps:`+strangeTree+huge+`
  - name: copied
    from: scratch
    steps: [{copy: /t, from: made, to: /t}]
  - name: changed
    from: made
    steps:
      - run: |-
          `+strangeChanges+`
`)
	judged := newBuildah(t)
	dir := t.TempDir()
	p.build("--target", "made", "-o", "type=oci,dest="+dir+"/oci").ok()
	// buildah takes no directory whose name could not be that of an image.
	judge(t, "skopeo", "copy", "oci:"+dir+"/oci", "containers-storage:["+judged.storage+"]localhost/made:1")
	// Where a recipe names no owner of what is copied, it is root.
	for _, c := range []struct{ stage, containerfile string }{
		{"copied", "FROM localhost/made:1 AS made\nFROM scratch\nCOPY --from=made --chown=0:0 /t /t\n"},
		{"changed", "FROM localhost/made:1\nRUN " + strangeChanges + "\n"},
	} {
		t.Run(c.stage, func(t *testing.T) {
			ours, _ := p.export("--target", c.stage)
			compareImages(t, ours, judged.build(t, c.containerfile))
		})
	}
}

// compareImages compares the files below /t. Times are ours alone.
func compareImages(t *testing.T, ours, theirs *ociImage) {
	t.Helper()
	mine, other := describeFiles(ours.files()), describeFiles(theirs.files())
	if len(mine) < 15 {
		t.Errorf("only %d files are compared", len(mine))
	}
	names := maps.Clone(mine)
	maps.Copy(names, other)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if mine[name] != other[name] {
			t.Errorf("%q\n is %s\nbuildah has %s", name, mine[name], other[name])
		}
	}
	t.Logf("%d files are the same", len(mine))
}

// describeFiles says everything of each file but its time. Of the names of one
// file, each lists all: which of them is the first does not matter. buildah's
// modes have the type of the file in them.
func describeFiles(files map[string]entry) map[string]string {
	group := map[string][]string{}
	first := func(name string) string {
		if e := files[name]; e.Typeflag == '1' {
			return filepath.Join("/", e.Linkname)
		}
		return name
	}
	for name := range files {
		group[first(name)] = append(group[first(name)], name)
	}
	all := map[string]string{}
	for name := range files {
		if !strings.HasPrefix(name, "/t/") {
			continue
		}
		e := files[first(name)]
		same := group[first(name)]
		slices.Sort(same)
		link := ""
		if e.Typeflag == '2' {
			link = e.Linkname
		}
		xattrs := maps.Clone(e.PAXRecords)
		maps.DeleteFunc(xattrs, func(key, _ string) bool { return !strings.HasPrefix(key, "SCHILY.xattr.") })
		all[name] = fmt.Sprintf("type %c, mode %o, owner %d:%d, %d bytes %s, -> %q, attributes %q, names %q", e.Typeflag, e.Mode&0o7777, e.Uid, e.Gid, e.Size, e.sum, link, xattrs, same)
	}
	return all
}

// A buildah builds in a store of its own.
type buildah struct {
	dir string
	// storage is the store in the words of containers-storage.
	storage string
	global  []string
}

func newBuildah(t *testing.T) *buildah {
	t.Helper()
	dir, err := os.MkdirTemp(storeRoot, "buildah-")
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "bh") // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	b := &buildah{
		dir: dir, storage: "overlay@" + dir + "/store+" + run,
		global: []string{"--root", dir + "/store", "--runroot", run, "--storage-driver", "overlay"},
	}
	t.Cleanup(func() {
		_, _ = tryJudge("umount", "-l", filepath.Join(dir, "store/overlay")) // buildah leaves it mounted
		for _, d := range []string{dir, run} {
			if err := os.RemoveAll(d); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// build returns the image of a Containerfile.
func (b *buildah) build(t *testing.T, containerfile string) *ociImage {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "Containerfile")
	if err := os.WriteFile(file, []byte(containerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	with := func(args ...string) []string { return slices.Concat(b.global, args) }
	judge(t, "buildah", with("bud", "--layers", "--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "-t", "judged", "-f", file, dir)...)
	judge(t, "buildah", with("push", "localhost/judged", "oci:"+dir+"/out")...)
	return readOCI(t, dir+"/out")
}
