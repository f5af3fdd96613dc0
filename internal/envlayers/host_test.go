package envlayers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/hosttest"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
)

// A linker finds libraries of the image alone, and changes nothing.
func TestLinkerFindsNothingOfTheHost(t *testing.T) {
	root, host := hosttest.Image(t)
	before := hosttest.State(t, host)
	in := &spackinstall.Installation{Packages: []spackinstall.Package{{Name: "pkg", Prefix: "/pkg"}, {Name: "abs", Prefix: "/abs"}}}
	got := fmt.Sprintf("%+v", []any{linkerFinds(root, in), ChooseLinkable(root, []string{"/pkg/lib64/libelf.so", "/abs/lib/libelf.so"})})
	if strings.Contains(got, hosttest.Text) || strings.Contains(got, "true") || strings.Contains(got, "Name:libelf") {
		t.Errorf("the linker found files of the host: %.300q", got)
	}
	if hosttest.State(t, host) != before {
		t.Error("the linker changed files of the host")
	}
}

func linkerFinds(root *rootfs.Root, in *spackinstall.Installation) any {
	l := NewLinker(root)
	l.readConf("/conf", 0)
	_ = l.addBundled(in) // a package that is not there has none
	l.places["libhost.so.1"] = "/lib/libhost.so.1"
	var places []string
	for _, n := range []need{{library: "libelf.so"}, {library: "/abs/lib/libelf.so"}, {library: "libelf.so", paths: []string{"$ORIGIN/../abs/lib", "/dots/lib"}}} {
		places = append(places, l.find("/data/x", n))
	}
	found := strings.Join(places, "") != "" || len(needsOf(root, "/abs/lib/libelf.so")) > 0 || len(l.versionsOf("/abs/lib/libelf.so")) > 0
	return []any{l.dirs, found, l.owner("libhost.so.1") != ""}
}
