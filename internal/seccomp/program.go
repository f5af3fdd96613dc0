package seccomp

import (
	"fmt"
	"math"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data; of an argument, its lower half on a
// little-endian machine.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16
)

const (
	load        = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jump        = unix.BPF_JMP | unix.BPF_JA
	jumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ret         = unix.BPF_RET | unix.BPF_K
)

// tables know the numbers of system calls. x32 has none on purpose: nothing
// but attacks uses it, and its calls get the default answer.
var tables = map[specs.Arch]*arch.Info{
	specs.ArchX86_64:  arch.X86_64,
	specs.ArchX86:     arch.I386,
	specs.ArchAARCH64: arch.AARCH64,
	specs.ArchARM:     arch.ARM,
}

// otherNames are those that a table has for calls of the profile.
var otherNames = map[string]string{"newfstatat": "fstatat"}

// Program translates the profile for the kernel. Of the rules for a call the
// first that fits decides; a call without one gets the default action, also
// one of an instruction set that is not the profile's.
func Program(p *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	program := []unix.SockFilter{{Code: load, K: dataArch}}
	for _, a := range p.Architectures {
		table := tables[a]
		if table == nil {
			continue
		}
		block, err := callsOf(p, table, fallback)
		if err != nil {
			return nil, err
		}
		program = append(program,
			unix.SockFilter{Code: jumpEqual, K: uint32(table.ID), Jt: 1},
			unix.SockFilter{Code: jump, K: uint32(len(block))})
		program = append(program, block...)
	}
	program = append(program, unix.SockFilter{Code: ret, K: fallback})
	switch {
	case len(program) == 2:
		return nil, fmt.Errorf("no system call numbers are known for %v", p.Architectures)
	case len(program) > math.MaxUint16:
		return nil, fmt.Errorf("the filter has %d instructions, too many for the kernel", len(program))
	}
	return program, nil
}

// callsOf decides about the calls of one instruction set.
func callsOf(p *specs.LinuxSeccomp, table *arch.Info, fallback uint32) ([]unix.SockFilter, error) {
	rules := map[uint32][]unix.SockFilter{} // the code for a call, by number
	decided := map[uint32]bool{}            // by a rule without conditions
	for _, r := range p.Syscalls {
		code, err := ruleCode(r)
		if err != nil {
			return nil, fmt.Errorf("system calls %v: %w", r.Names, err)
		}
		for _, name := range r.Names {
			number, ok := table.SyscallNames[name]
			if !ok {
				number, ok = table.SyscallNames[otherNames[name]]
			}
			if n := uint32(number); ok && !decided[n] {
				rules[n] = append(rules[n], code...)
				decided[n] = len(r.Args) == 0
			}
		}
	}
	end := []unix.SockFilter{{Code: ret, K: fallback}}
	for n, code := range rules {
		if !decided[n] {
			rules[n] = append(code, end...)
		}
	}
	return append([]unix.SockFilter{{Code: load, K: dataNumber}}, search(ranges(rules, end))...), nil
}

// ruleCode answers a call when all conditions hold, else it falls through.
func ruleCode(r specs.LinuxSyscall) ([]unix.SockFilter, error) {
	answer, err := action(r.Action, r.ErrnoRet)
	if err != nil {
		return nil, err
	}
	code := []unix.SockFilter{{Code: ret, K: answer}}
	for _, arg := range slices.Backward(r.Args) {
		if arg.Value > math.MaxUint32 {
			return nil, fmt.Errorf("argument %d is compared with more than 32 bits", arg.Index)
		}
		// These arguments are ints: the kernel does not look at the upper
		// half either, so it must not help to set it.
		test := unix.SockFilter{Code: jumpEqual, K: uint32(arg.Value)}
		switch skip := uint8(len(code)); arg.Op {
		case specs.OpEqualTo:
			test.Jf = skip
		case specs.OpNotEqual:
			test.Jt = skip
		default:
			return nil, fmt.Errorf("comparison %s is not known", arg.Op)
		}
		code = append([]unix.SockFilter{{Code: load, K: dataArgument + 8*uint32(arg.Index)}, test}, code...)
	}
	return code, nil
}

// A span is the code for a call and all up to the next span's.
type span struct {
	first uint32
	code  []unix.SockFilter
}

// ranges joins calls that follow each other and are treated alike.
func ranges(rules map[uint32][]unix.SockFilter, fallback []unix.SockFilter) []span {
	numbers := []uint32{0}
	for n := range rules {
		numbers = append(numbers, n, n+1)
	}
	slices.Sort(numbers)
	var spans []span
	for _, n := range slices.Compact(numbers) {
		code, ok := rules[n]
		if !ok {
			code = fallback
		}
		if len(spans) == 0 || !slices.Equal(spans[len(spans)-1].code, code) {
			spans = append(spans, span{n, code})
		}
	}
	return spans
}

// search finds the span of a number by halving; every branch ends in an answer.
func search(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return spans[0].code
	}
	half := len(spans) / 2
	below, above := search(spans[:half]), search(spans[half:])
	code := []unix.SockFilter{
		{Code: jumpAtLeast, K: spans[half].first, Jf: 1},
		{Code: jump, K: uint32(len(below))},
	}
	return append(append(code, below...), above...)
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		number := uint32(unix.EPERM)
		if errno != nil {
			number = uint32(*errno)
		}
		return unix.SECCOMP_RET_ERRNO | number, nil
	}
	return 0, fmt.Errorf("action %s is not known", a)
}
