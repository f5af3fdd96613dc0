package seccomp

import (
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	podman "go.podman.io/common/pkg/seccomp"
)

// Profile is podman's default profile for a process with these capabilities
// (such as CAP_CHOWN) on this architecture.
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
		if applies(call, capabilities) {
			p.Syscalls = append(p.Syscalls, rule(call))
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
	r := specs.LinuxSyscall{Names: call.Names, Action: specs.LinuxSeccompAction(call.Action), ErrnoRet: call.ErrnoRet}
	if call.Name != "" {
		r.Names = append(slices.Clone(r.Names), call.Name)
	}
	for _, arg := range call.Args {
		r.Args = append(r.Args, specs.LinuxSeccompArg{
			Index: arg.Index, Value: arg.Value, ValueTwo: arg.ValueTwo, Op: specs.LinuxSeccompOperator(arg.Op),
		})
	}
	return r
}
