package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// builds are the capabilities of a step.
var builds = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SYS_CHROOT"}

const probeVariable = "SECCOMP_TEST_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(probeVariable) != "" {
		os.Exit(probe())
	}
	os.Exit(m.Run())
}

// The program answers every call of every instruction set as the rules say.
func TestProgramIsTheProfile(t *testing.T) {
	for _, caps := range [][]string{nil, builds, {"CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"}} {
		p := Profile(caps)
		program, err := Program(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d instructions for %v", len(program), caps)
		for _, a := range p.Architectures {
			table := tables[a]
			if table == nil {
				continue
			}
			for number := uint32(0); number < 1100; number++ {
				for _, args := range [][3]uint64{{}, {0, 1}, {8}, {unix.AF_NETLINK, 0, unix.NETLINK_AUDIT}, {unix.AF_VSOCK}, {0xffffffff}, {0x20008}, {7}} {
					want := expected(p, table, number, args)
					if got := evaluate(t, program, number, uint32(table.ID), args); got != want {
						t.Fatalf("%s: call %d (%s) %v: %#x, want %#x", a, number, table.SyscallNumbers[int(number)], args, got, want)
					}
				}
			}
		}
	}
}

func TestForeignInstructionSets(t *testing.T) {
	program, err := Program(Profile(builds))
	if err != nil {
		t.Fatal(err)
	}
	const x32 = 0x40000000
	for _, c := range [][2]uint32{{unix.SYS_READ | x32, nativeID(t)}, {unix.SYS_READ, unix.AUDIT_ARCH_S390X}} {
		if got := evaluate(t, program, c[0], c[1], [3]uint64{}); got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
			t.Errorf("call %#x of %#x: %#x, want ENOSYS", c[0], c[1], got)
		}
	}
}

// What every program needs is allowed, under whatever name it is in the table.
func TestOrdinaryCallsAreAllowed(t *testing.T) {
	program, err := Program(Profile(builds))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]uint32{
		"read": unix.SYS_READ, "openat": unix.SYS_OPENAT, "execve": unix.SYS_EXECVE, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3,
		"fstatat": fstatat, "statx": unix.SYS_STATX, "renameat2": unix.SYS_RENAMEAT2, "mmap": unix.SYS_MMAP, "futex": unix.SYS_FUTEX,
		"unshare": unix.SYS_UNSHARE, "mount": unix.SYS_MOUNT, "ptrace": unix.SYS_PTRACE, "chroot": unix.SYS_CHROOT, "seccomp": unix.SYS_SECCOMP,
		"process_vm_readv": unix.SYS_PROCESS_VM_READV, "mbind": unix.SYS_MBIND, "rt_sigreturn": unix.SYS_RT_SIGRETURN,
	}
	for name, number := range calls {
		if got := evaluate(t, program, number, nativeID(t), [3]uint64{}); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("%s: %#x, want it allowed", name, got)
		}
	}
}

// No instruction set reaches the keyrings, whatever the capabilities; a runtime
// gets no rule that lets it.
func TestKeyringsAreRefused(t *testing.T) {
	for _, caps := range [][]string{nil, builds, {"CAP_SYS_ADMIN"}} {
		p := Profile(caps)
		program, err := Program(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"add_key", "keyctl", "request_key"} {
			if slices.ContainsFunc(p.Syscalls, func(r specs.LinuxSyscall) bool { return slices.Contains(r.Names, name) }) {
				t.Errorf("%s is in the rules for %v", name, caps)
			}
			for _, a := range p.Architectures {
				table := tables[a]
				if table == nil {
					continue
				}
				number, ok := table.SyscallNames[name]
				if got := evaluate(t, program, uint32(number), uint32(table.ID), [3]uint64{}); !ok || got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
					t.Errorf("%s: %s (known: %v): %#x, want ENOSYS", a, name, ok, got)
				}
			}
		}
	}
}

// In a thread with the filter the kernel refuses what the profile refuses,
// and the rest of the process is free.
func TestInstall(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{probeVariable + "=1"}
	if os.Getuid() != 0 { // CAP_SYS_ADMIN
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("SKIPPED: this host does not allow user namespaces")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "free: seccomp 0\n" +
		"userfaultfd: operation not permitted\n" +
		"add_key: function not implemented\n" +
		"keyctl: function not implemented\n" +
		"vsock: operation not permitted\n" +
		"vsock with a bit that the kernel ignores: operation not permitted\n" +
		"a child: Seccomp:\t2\n"
	if string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// probe prints what a filtered thread may do.
func probe() int {
	program, err := Program(Profile(builds))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	done := make(chan int)
	go func() {
		runtime.LockOSThread()
		if err := Install(program); err != nil {
			fmt.Println(err)
			done <- 1
			return
		}
		free := make(chan int)
		go func() {
			mode, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
			free <- mode
		}()
		fmt.Printf("free: seccomp %d\n", <-free)
		attempt("userfaultfd", unix.SYS_USERFAULTFD, 0, 0)
		attempt("add_key", unix.SYS_ADD_KEY, 0, 0)
		attempt("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0)
		attempt("vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)
		attempt("vsock with a bit that the kernel ignores", unix.SYS_SOCKET, unix.AF_VSOCK|1<<40, unix.SOCK_STREAM)
		out, err := exec.Command("/bin/grep", "Seccomp:", "/proc/self/status").Output()
		if err != nil {
			out = []byte(err.Error() + "\n")
		}
		fmt.Printf("a child: %s", out)
		done <- 0
	}()
	return <-done
}

func attempt(name string, number, a, b uintptr) {
	_, _, errno := unix.RawSyscall(number, a, b, 0)
	fmt.Printf("%s: %v\n", name, errno)
}

// expected applies the rules one after the other.
func expected(p *specs.LinuxSeccomp, table *arch.Info, number uint32, args [3]uint64) uint32 {
	name, ok := table.SyscallNumbers[int(number)]
	for profile, here := range otherNames {
		if name == here {
			name = profile
		}
	}
	for _, r := range p.Syscalls {
		if !ok || !slices.Contains(r.Names, name) {
			continue
		}
		holds := true
		for _, a := range r.Args {
			equal := args[a.Index] == a.Value
			holds = holds && equal == (a.Op == specs.OpEqualTo)
		}
		if holds && r.Action == specs.ActAllow {
			return unix.SECCOMP_RET_ALLOW
		} else if holds {
			return unix.SECCOMP_RET_ERRNO | uint32(*r.ErrnoRet)
		}
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
}

// evaluate is the kernel's interpreter for the instructions that filters here
// are made of.
func evaluate(t *testing.T, program []unix.SockFilter, number, auditArch uint32, args [3]uint64) uint32 {
	t.Helper()
	data := map[uint32]uint32{dataNumber: number, dataArch: auditArch}
	for i, arg := range args {
		data[dataArgument+8*uint32(i)] = uint32(arg)
	}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in, holds := program[pc], false
		switch in.Code {
		case ret:
			return in.K
		case load:
			a = data[in.K]
			continue
		case jump:
			pc += int(in.K)
			continue
		case jumpEqual:
			holds = a == in.K
		case jumpAtLeast:
			holds = a >= in.K
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
		if holds {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func nativeID(t *testing.T) uint32 {
	t.Helper()
	a := nativeArch[runtime.GOARCH]
	if a == "" || !strings.HasPrefix(string(a), "SCMP_ARCH_") {
		t.Skipf("SKIPPED: no profile for %s", runtime.GOARCH)
	}
	return uint32(tables[a].ID)
}
