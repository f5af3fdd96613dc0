package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// kernel compares the release with the one from which on an overlay can be
// mounted without root.
func (x *examination) kernel() {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return
	}
	release := unix.ByteSliceToString(uts.Release[:])
	found := "Linux " + release
	if major, minor, ok := kernelVersion(release); ok && x.user.ID != 0 && (major < 5 || major == 5 && minor < 11) {
		x.bad("kernel", Warning, found, hosthelp.Kernel)
		return
	}
	x.good("kernel", found)
}

func kernelVersion(release string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, err == nil && n == 2
}

func (x *examination) userNamespaces() {
	const check = "user-namespaces"
	switch {
	case x.opt.Namespace != nil:
		topic, _ := hosthelp.NoUserNamespace()
		x.failed(check, x.opt.Namespace, topic)
	case x.user.IsRoot():
		x.good(check, notNeeded)
	default:
		x.good(check, "this user gets one")
	}
}

// notNeeded is said of what only an ordinary user needs.
const notNeeded = "not needed: this is root"

// subordinateIDs looks at the ranges and at what became of them. Where there is
// no namespace, they do not matter.
func (x *examination) subordinateIDs() {
	const check = "subordinate-ids"
	switch {
	case x.user.IsRoot():
		x.good(check, notNeeded)
	case x.opt.Namespace != nil:
	case builder.OwnUserNamespace():
		x.ranges(check, x.user.Ranges("/etc/subuid"), x.user.Ranges("/etc/subgid"))
	case x.user.IDs >= usualIDs:
		x.good(check, fmt.Sprintf("%d in the user namespace around this program", x.user.IDs))
	default:
		x.bad(check, Note, fmt.Sprintf("the user namespace around this program has %s", ids(x.user.IDs, "")), hosthelp.OuterNamespace)
	}
}

// usualIDs are enough for every usual image; Debian's last user is 65534.
const usualIDs = 65535

// ranges judges how many ids the files give this user, and what of them there
// is in our namespace.
func (x *examination) ranges(check string, uids, gids uint64) {
	_, uidErr := exec.LookPath("newuidmap")
	_, gidErr := exec.LookPath("newgidmap")
	switch {
	case x.user.Name == "":
		x.bad(check, Note, fmt.Sprintf("newuidmap gives nothing to %s", x.user), hosthelp.SubordinateIDs)
	case uids == 0 && gids == 0:
		x.bad(check, Note, fmt.Sprintf("/etc/subuid and /etc/subgid have no range for %s", x.user), hosthelp.SubordinateIDs)
	case uids == 0 || gids == 0:
		x.bad(check, Warning, fmt.Sprintf("only one of /etc/subuid (%d ids) and /etc/subgid (%d ids) has a range for %s", uids, gids, x.user), hosthelp.SubordinateIDs)
	case uidErr != nil || gidErr != nil:
		x.bad(check, Warning, "newuidmap or newgidmap is not installed", hosthelp.NewUIDMap)
	case x.user.IDs == 1:
		x.bad(check, Warning, fmt.Sprintf("%s has %s, but newuidmap could not map them", x.user, ids(uids, "")), hosthelp.NewUIDMapBroken)
	case min(uids, gids) < usualIDs:
		x.bad(check, Warning, fmt.Sprintf("%s has %s and %s", x.user, ids(uids, "user "), ids(gids, "group ")), hosthelp.SmallRange)
	default:
		x.good(check, fmt.Sprintf("%d for %s", uids, x.user))
	}
}

func ids(n uint64, kind string) string {
	if n == 1 {
		return "one " + kind + "id"
	}
	return fmt.Sprintf("%d %sids", n, kind)
}

func (x *examination) container() {
	if name := hosthelp.Container(); name != "" {
		x.findings = append(x.findings, Finding{Check: "container", Status: Note, Found: "this is inside of " + name, Means: "what that forbids, a build cannot do either"})
	}
}

// seccomp looks for a filter of system calls around this process; see proc(5).
func (x *examination) seccomp() {
	const check = "seccomp"
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		mode, ok := strings.CutPrefix(line, "Seccomp:")
		switch {
		case !ok:
		case strings.TrimSpace(mode) == "0":
			x.good(check, "no filter of system calls is around this")
		default:
			x.findings = append(x.findings, Finding{
				Check: check, Status: Note, Found: "a filter of system calls is around this",
				Means: "what it forbids, a build cannot do either: see user-namespaces, isolation and file-owners",
				User:  hosthelp.For(hosthelp.Sandbox).User,
			})
		}
	}
}

func (x *examination) home() {
	const check = "home"
	home, found := x.opt.Home, ""
	if home == "" {
		found = "HOME is not set"
	} else if err := unix.Access(home, unix.W_OK); err != nil {
		found = fmt.Sprintf("HOME=%s cannot be written to: %v", home, err)
	}
	switch {
	case found == "":
		x.good(check, home)
	case x.opt.Store.Root != "" || x.user.IsRoot():
		x.bad(check, Note, found, hosthelp.HomeNotNeeded)
	default:
		x.bad(check, Warning, found, hosthelp.Home)
	}
}

func (x *examination) limits() {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		found := fmt.Sprintf("%d, at most %d", files.Cur, files.Max)
		if files.Max < 1024 {
			x.bad("open-files", Warning, found, hosthelp.OpenFiles)
		} else {
			x.good("open-files", found)
		}
	}
	x.memory()
}

// memory is what the host has free or, if that is less, what a container or a
// batch system leaves to this process.
func (x *examination) memory() {
	memory, ok := availableMemory("/proc/meminfo")
	found := size(memory) + " available"
	if left, ok := groupMemory("/proc/self/cgroup", "/sys/fs/cgroup"); ok && left < memory {
		memory, found = left, size(left)+" left of this process's control group"
	}
	switch {
	case !ok:
	case memory < 1<<30:
		x.bad("memory", Warning, found, hosthelp.Memory)
	default:
		x.good("memory", found)
	}
}

func availableMemory(file string) (uint64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		var kilobytes uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10, true
		}
	}
	return 0, false
}

// groupMemory is the least that the control groups around this process leave
// to it; see the kernel's cgroup-v2. Without a limit there is none.
func groupMemory(self, mounted string) (left uint64, limited bool) {
	data, err := os.ReadFile(self)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			most, set := number(filepath.Join(mounted, dir, "memory.max"))
			used, _ := number(filepath.Join(mounted, dir, "memory.current"))
			if free := most - min(used, most); set && (!limited || free < left) {
				left, limited = free, true
			}
			if dir == "/" {
				break
			}
		}
	}
	return left, limited
}

func number(file string) (uint64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil // without a limit it says max
}

// tools are programs that some recipes need.
func (x *examination) tools() {
	if path, err := exec.LookPath("git"); err == nil {
		x.good("git", path)
	} else {
		x.bad("git", Note, "git is not installed", hosthelp.Git)
	}
	for _, name := range []string{"mmdebstrap", "debootstrap"} {
		if path, err := exec.LookPath(name); err == nil {
			x.good("bootstrap-tool", path)
			return
		}
	}
	x.bad("bootstrap-tool", Note, "neither mmdebstrap nor debootstrap is installed", hosthelp.BootstrapTool)
}
