package builder

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/envlayers"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// libraryTree is a root with libraries made by the host's compiler: libplain,
// libtwo that needs it, and some that nothing can be linked with.
func libraryTree(t *testing.T) *rootfs.Root {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("SKIPPED: gcc is not installed, so no library is linked with")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "opt/lib")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := `cd "$0"
echo 'int f(void) { return 1; } int a_function(void) { return 2; } void _hidden_away_deeply(void) {}' | gcc -shared -fPIC -nostdlib -o libplain.so.1 -Wl,-soname,libplain.so.1 -xc -
ln -s libplain.so.1 libplain.so
echo 'int a_function(void); int two(void) { return a_function(); }' | gcc -shared -fPIC -nostdlib -o libtwo.so -xc - -L. -lplain -Wl,-rpath,/opt/lib
echo 'int x;' | gcc -shared -fPIC -nostdlib -o libafunctionless.so -xc -
echo 'int f(void) { return 1; }' | gcc -shared -fPIC -nostdlib -o libaalone.so -xc - -Wl,--no-as-needed -lm
echo 'INPUT(-lplain)' > libascript.so
ln -s nowhere libadangling.so`
	if out, err := exec.Command("/bin/sh", "-ec", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return openRoot(t, root)
}

func candidates(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, "/opt/lib/"+name)
	}
	return all
}

// The library that is linked with needs nothing that is lacking, and as little
// as possible.
func TestChooseLinkable(t *testing.T) {
	root := libraryTree(t)
	all := candidates("libadangling.so", "libafunctionless.so", "libaalone.so", "libascript.so", "libtwo.so", "libplain.so")
	if got := envlayers.ChooseLinkable(root, all); got == nil || *got != (envlayers.Linkable{Dir: "/opt/lib", Name: "plain", Symbol: "a_function"}) {
		t.Errorf("the library is %+v", got)
	}
	if got := envlayers.ChooseLinkable(root, all[:5]); got == nil || *got != (envlayers.Linkable{Dir: "/opt/lib", Name: "two", Symbol: "two"}) {
		t.Errorf("without the first it is %+v", got)
	}
	if got := envlayers.ChooseLinkable(root, all[:4]); got != nil {
		t.Errorf("among those that cannot be linked with it is %+v", got)
	}
}

// The proofs pass with the host's compilers, and fail where the library does
// not have what it should.
func TestProofs(t *testing.T) {
	root := libraryTree(t)
	good := &envlayers.Linkable{Dir: filepath.Join(root.HostPath(), "opt/lib"), Name: "plain", Symbol: "a_function"}
	for name, c := range map[string]struct {
		library *envlayers.Linkable
		works   bool
	}{
		"no library":       {nil, true},
		"a library":        {good, true},
		"no such function": {&envlayers.Linkable{Dir: good.Dir, Name: good.Name, Symbol: "a_function_of_nobody"}, false},
		"no such library":  {&envlayers.Linkable{Dir: good.Dir, Name: "none", Symbol: good.Symbol}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range proofs(recipe.Compiler{CC: "gcc", CXX: "g++"}, c.library) {
				prove(t, p, c.library, c.works)
			}
		})
	}
}

// prove does as proveOne, in directories of the host.
func prove(t *testing.T, p proof, l *envlayers.Linkable, works bool) {
	t.Helper()
	if _, err := exec.LookPath(p.compiler); err != nil {
		t.Skipf("SKIPPED: %s is not installed", p.compiler)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.source), 0o600); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer(proofDir, dir, "/tmp/pdibuild-proof", filepath.Join(dir, "proof")).Replace(p.script(l))
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if (err == nil) != works {
		t.Fatalf("%s: %v\n%s\n%s", p.compiler, err, out, p.source)
	}
	if works && l != nil && !strings.Contains(string(out), "with libplain") {
		t.Errorf("%s prints %q", p.compiler, out)
	}
}
