package seccomp

import (
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	podman "go.podman.io/common/pkg/seccomp"
)

// keyrings are the calls for the kernel's keyrings. A step gets a session keyring
// of its own, but those of its user, and the persistent one, belong to the user
// id: as root they are the host's. Like other calls that are not in the rules
// these fail as on a kernel without them, which programs that can do without
// expect.
var keyrings = []string{"add_key", "keyctl", "request_key"}

// Profile is podman's default profile, without keyrings, for a process with
// these capabilities (such as CAP_CHOWN) on this architecture.
func Profile(capabilities []string) *specs.LinuxSeccomp {
	all := podman.DefaultProfile()
	p := &specs.LinuxSeccomp{
		DefaultAction:   specs.LinuxSeccompAction(all.DefaultAction),
		DefaultErrnoRet: all.DefaultErrnoRet,
	}
	native := nativeArch[runtime.GOARCH]
	for _, a := range all.ArchMap {
		if specs.Arch(a.Arch) != native {
			continue
		}
		p.Architectures = append(p.Architectures, native)
		for _, sub := range a.SubArches {
			p.Architectures = append(p.Architectures, specs.Arch(sub))
		}
	}
	for _, call := range all.Syscalls {
		if r := rule(call); applies(call, capabilities) && len(r.Names) > 0 { // no name would be an error
			p.Syscalls = append(p.Syscalls, r)
		}
	}
	return p
}

var nativeArch = map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}

// applies reports whether a rule is for these capabilities and this
// architecture: it has to have all that the rule includes, none that it excludes.
func applies(call *podman.Syscall, capabilities []string) bool {
	has := func(c string) bool { return slices.Contains(capabilities, c) }
	here := func(a string) bool { return a == runtime.GOARCH }
	in, out := call.Includes, call.Excludes
	switch {
	case slices.ContainsFunc(in.Caps, func(c string) bool { return !has(c) }):
		return false
	case len(in.Arches) > 0 && !slices.ContainsFunc(in.Arches, here):
		return false
	}
	return !slices.ContainsFunc(out.Caps, has) && !slices.ContainsFunc(out.Arches, here)
}

func rule(call *podman.Syscall) specs.LinuxSyscall {
	r := specs.LinuxSyscall{Names: slices.Clone(call.Names), Action: specs.LinuxSeccompAction(call.Action), ErrnoRet: call.ErrnoRet}
	if call.Name != "" {
		r.Names = append(r.Names, call.Name)
	}
	r.Names = slices.DeleteFunc(r.Names, func(name string) bool { return slices.Contains(keyrings, name) })
	for _, arg := range call.Args {
		r.Args = append(r.Args, specs.LinuxSeccompArg{
			Index: arg.Index, Value: arg.Value, ValueTwo: arg.ValueTwo, Op: specs.LinuxSeccompOperator(arg.Op),
		})
	}
	return r
}
