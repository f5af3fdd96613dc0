package builder

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestUnpackErrorNamesFileAndIDs(t *testing.T) {
	const said = `writing blob: adding layer with blob "sha256:9e": unpacking failed (error: exit status 1; output: potentially insufficient UIDs or GIDs available in ` +
		`user namespace (requested 205001:5000 for /opt/a (b)): Check /etc/subuid and /etc/subgid if configured locally and run "podman system migrate": lchown /opt/a (b): invalid argument)`
	sub := identity{rootless: true}
	for place, err := range map[string]error{
		`stage "s", step 2 (from x)`: &StepError{Stage: "s", Step: 2, Text: "from x", ExitCode: -1, Err: errors.New(said)},
		"pull r.example/x":           &RegistryError{Op: "pull", Image: "r.example/x", Err: errors.New(said)},
		"from oci:x":                 &InputError{Subject: "from oci:x", Err: errors.New(said), Hint: "the image is damaged"},
	} {
		b := &Builder{ids: sub}
		var host *HostError
		if got := b.hostCause("build", err); !errors.As(got, &host) || host.Op != place+": owner 205001:5000 of file /opt/a (b)" {
			t.Errorf("%s: %v", place, got)
		}
	}
	if got := (identity{rootless: true, single: true}).unpackError(errors.New(said)); got != nil {
		t.Errorf("with a single id: %v", got)
	}
	if got := sub.unpackError(errors.New("lchown /x: invalid argument")); got != nil {
		t.Errorf("another error became %v", got)
	}
}

// What programs print when the kernel does not know an id.
func TestCommandHintAboutIDs(t *testing.T) {
	for line, want := range map[string]bool{
		"chown: /f: Invalid argument":                                            true,
		"chown: changing ownership of '/f': Invalid argument":                    true,
		"tar: x: Cannot change ownership to uid 205001, gid 5: Invalid argument": true,
		"cp: failed to preserve ownership for '/x': Invalid argument":            true,
		"runc run failed: unable to setup user: invalid argument":                true,
		"su: cannot set groups: Operation not permitted":                         false,
		"mount: /mnt: Invalid argument":                                          false,
		"chown: invalid user: 'nobody2'":                                         false,
	} {
		for _, who := range []identity{{rootless: true}, {rootless: true, single: true}, {}} {
			hint := who.commandHint([]string{"first", line, "last"})
			if (hint != "") != (want && who.rootless && !who.single) {
				t.Errorf("%+v, %q: hint %q", who, line, hint)
			}
		}
	}
}

// Every HostError about ids names the step that needs them.
func TestStepNeedsIDs(t *testing.T) {
	err := (identity{rootless: true}).check("owner 7:7 of file /x", 7, 7)
	if err == nil || (identity{}).check("x", 7, 7) != nil || (identity{rootless: true, single: true}).check("x", 7, 7) != nil {
		t.Fatalf("the check says %v", err)
	}
	x := &stepRun{stage: &recipe.Stage{Name: "final"}, n: 3, planned: PlannedStep{Text: "copy a → /x"}}
	got := x.explain(t.Context(), fmt.Errorf("make the layer: layer entry %q: %w", "x", err))
	if want := `stage "final", step 3 (copy a → /x): owner 7:7 of file /x: this user has only `; !strings.HasPrefix(got.Error(), want) {
		t.Errorf("%v, want %s…", got, want)
	}
}
