package ownership

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The filter notifies of the calls it should, in the native form only.
func TestFilter(t *testing.T) {
	program := filterProgram(callNumbers(true))
	for number := int32(-1); number < 600; number++ {
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if handlers(true)[number] != nil {
			want = unix.SECCOMP_RET_USER_NOTIF
		}
		if got := evaluate(t, program, uint32(number), auditArch); got != want {
			t.Errorf("call %d: %#x, want %#x", number, got, want)
		}
		for _, foreign := range [][2]uint32{{uint32(number) | x32Bit, auditArch}, {uint32(number), unix.AUDIT_ARCH_I386}} {
			if got := evaluate(t, program, foreign[0], foreign[1]); got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("call %#x of architecture %#x: %#x, want it allowed", foreign[0], foreign[1], got)
			}
		}
	}
	for _, number := range callNumbers(false) {
		if statCalls()[number] != nil {
			t.Errorf("call %d is a stat call", number)
		}
	}
}

// evaluate runs the few instructions that filters here are made of.
func evaluate(t *testing.T, program []unix.SockFilter, number, arch uint32) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in, jump := program[pc], false
		switch in.Code {
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{dataNumber: number, dataArch: arch}[in.K]
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump = a == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump = a >= in.K
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
		if jump {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program has no end")
	return 0
}
