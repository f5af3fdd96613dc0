package worker

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// stepHostname is the same on every host, because programs like to store it.
const stepHostname = "pdibuild"

// root is a root file system being arranged for one command: the working
// layer with /proc, /dev, /sys, name resolution, mounts and secrets over it.
//
// Another step may share a mount with this one and change it at any moment. So
// no path in the root is ever joined to a path of the host: each mount is made
// ready in scratch, where nobody else comes to, and attached to a descriptor.
type root struct {
	path, scratch string
	// inside is the root as its files are named in it.
	inside *rootfs.Root
	// layer is the id of the working layer's own mount.
	layer string
	// staged counts the places in scratch for mounts.
	staged int
	// mounts are the attached ones, and made their mount points, if these are
	// in the working layer. Tidy undoes both.
	mounts []*os.File
	made   []rootfs.Made
}

// bind shows the working layer at r.path. An image may bring device nodes, and
// root would get at the host's disks through them: they are not to be used.
func (r *root) bind(layer string) error {
	if err := os.Mkdir(r.path, 0o755); err != nil {
		return fmt.Errorf("prepare the root: %w", err)
	}
	if err := unix.Mount(layer, r.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("prepare the root: %w", err)
	}
	err := restrict(r.path, unix.MOUNT_ATTR_NODEV)
	if err == nil {
		r.inside, err = rootfs.Open(r.path)
	}
	if err == nil {
		r.layer, err = r.ownMount()
	}
	if err != nil {
		return fmt.Errorf("prepare the root: %w", err)
	}
	return nil
}

// restrict sets attributes of a mount and of those below it, all of which only
// we can see.
func restrict(place string, attributes uint64) error {
	err := unix.MountSetattr(unix.AT_FDCWD, place, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes})
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// Before Linux 5.12. The attributes that were flags then have their values.
	return unix.Mount("", place, "", unix.MS_REMOUNT|unix.MS_BIND|uintptr(attributes), "")
}

func (r *root) arrange(req *Request) error {
	arrangements := []func(*Request) error{
		r.arrangeProc, r.arrangeSys, r.arrangeDev, r.arrangeNames, r.arrangeApt, r.arrangeMounts, r.arrangeSecrets, r.arrangeCwd,
	}
	for _, a := range arrangements {
		if err := a(req); err != nil {
			return err
		}
	}
	return nil
}

func (r *root) arrangeProc(req *Request) error {
	place, err := r.stage(true)
	if err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if req.PIDNamespace {
		err = unix.Mount("proc", place, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil || !req.PIDNamespace {
		err = unix.Mount("/proc", place, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	r.maskBelow(place, "/proc/")
	for _, p := range readOnlyPaths {
		r.readOnly(filepath.Join(place, strings.TrimPrefix(p, "/proc/")))
	}
	return r.attach(place, "/proc")
}

// What podman hides from a container, and what it lets nobody write to: they
// tell about the host or change it.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
	}
	readOnlyPaths = []string{"/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// maskBelow hides what maskedPaths names in a file system that is not attached
// yet.
func (r *root) maskBelow(place, prefix string) {
	for _, p := range maskedPaths {
		if rel, ok := strings.CutPrefix(p, prefix); ok {
			r.mask(filepath.Join(place, rel))
		}
	}
}

// mask hides a file or a directory. It is defence in depth: a failure leaves
// what the kernel permits anyway.
func (r *root) mask(path string) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		_ = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=0")
		return
	}
	_ = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
}

func (r *root) readOnly(path string) {
	if unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "") == nil {
		_ = unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
}

func (r *root) arrangeSys(*Request) error {
	place, err := r.stage(true)
	if err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount("/sys", place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return nil //nolint:nilerr // some sandboxes hide /sys; few programs miss it
	}
	_ = restrict(place, unix.MOUNT_ATTR_RDONLY) // the host's root alone could write there
	r.maskBelow(place, "/sys/")
	return r.attach(place, "/sys")
}

func (r *root) arrangeDev(req *Request) error {
	dev, err := r.stage(true)
	if err == nil {
		err = unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=0755,size=64k")
	}
	if err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	nodes := []string{"null", "zero", "full", "random", "urandom"}
	if req.Runtime == "" { // a runtime makes its own tty, and stumbles over ours
		nodes = append(nodes, "tty")
	}
	for _, name := range nodes {
		node := filepath.Join(dev, name)
		if err := os.WriteFile(node, nil, 0o666); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		if err := unix.Mount("/dev/"+name, node, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	if err := arrangeDevMounts(dev); err != nil {
		return err
	}
	return r.attach(dev, "/dev")
}

func arrangeDevMounts(dev string) error {
	pts, shm := filepath.Join(dev, "pts"), filepath.Join(dev, "shm")
	if err := errors.Join(os.Mkdir(pts, 0o755), os.Mkdir(shm, 0o755)); err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("tmpfs", shm, "tmpfs", flags, "mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	// Group 5 (tty) exists only where there is more than one id.
	err := unix.Mount("devpts", pts, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
	if err != nil {
		err = unix.Mount("devpts", pts, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
	}
	if err != nil {
		_ = unix.Mount("/dev/pts", pts, "", unix.MS_BIND, "") // sandboxes without devpts
	}
	return nil
}

// arrangeNames gives the step the host's view of host names. An image in which
// one of the files cannot be, such as one with a directory of that name, does
// without.
func (r *root) arrangeNames(req *Request) error {
	if req.Root == "/" {
		return nil // a trial in the host's own root, which has them
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	if !req.HostNames {
		hosts = append([]byte("127.0.0.1 localhost "+stepHostname+"\n::1 localhost ip6-localhost\n"), hosts...)
	}
	if err := r.bindContent("hosts", "/etc/hosts", hosts); err != nil && !errors.Is(err, errWrongKind) {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil || req.NoNetwork {
		resolv = []byte("# no network\n")
	}
	err = r.bindContent("resolv.conf", "/etc/resolv.conf", resolv)
	if errors.Is(err, errWrongKind) {
		return nil
	}
	return err
}

// AptConfig is where arrangeApt puts its file; APT_CONFIG names it.
const AptConfig = "/run/pdibuild-apt.conf"

// arrangeApt keeps apt from becoming the user _apt, where there is no other
// user than root. The file is not part of the image.
func (r *root) arrangeApt(req *Request) error {
	if !req.SingleID {
		return nil
	}
	return r.bindContent("apt.conf", AptConfig, []byte("APT::Sandbox::User \"root\";\n"))
}

// bindContent shows a file with this content.
func (r *root) bindContent(name, target string, content []byte) error {
	file := filepath.Join(r.scratch, name)
	err := os.WriteFile(file, content, 0o644)
	if err == nil {
		err = unix.Mount(file, file, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("prepare %s: %w", target, err)
	}
	return r.attach(file, target)
}

// arrangeMounts mounts what the request names, a directory before those below
// it, so that none hides another.
func (r *root) arrangeMounts(req *Request) error {
	depth := func(m Mount) int { return strings.Count(path.Join("/", m.Target), "/") }
	mounts := slices.Clone(req.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(depth(a), depth(b)) })
	for _, m := range mounts {
		prepare := r.prepareBind
		if m.Type == "tmpfs" {
			prepare = r.prepareTmpfs
		}
		place, err := prepare(m, req)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		if err := r.attach(place, m.Target); err != nil {
			return err
		}
	}
	return nil
}

func (r *root) prepareTmpfs(m Mount, _ *Request) (place string, err error) {
	data := "mode=1777"
	if m.Size != "" {
		data += ",size=" + m.Size
	}
	if place, err = r.stage(true); err != nil {
		return "", err
	}
	return place, unix.Mount("tmpfs", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data)
}

func (r *root) prepareBind(m Mount, req *Request) (place string, err error) {
	source, err := m.Open()
	if err != nil {
		return "", err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return "", err
	}
	if place, err = r.stage(info.IsDir()); err != nil {
		return "", err
	}
	switch {
	case m.IDMap:
		err = mountMapped(descriptorPath(source), place, req)
	case m.Spare != "":
		err = mountCopy(source, place, m.Spare)
	default:
		err = unix.Mount(descriptorPath(source), place, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return "", err
	}
	var attributes uint64
	if !m.Write {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	if m.Within != "" { // it may be an image's, whose devices are not to be used
		attributes |= unix.MOUNT_ATTR_NODEV
	}
	if attributes == 0 {
		return place, nil
	}
	return place, restrict(place, attributes)
}

// Open holds on to what is to be mounted.
func (m *Mount) Open() (*os.File, error) {
	if m.Within == "" {
		return os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	within, err := rootfs.Open(m.Within)
	if err != nil {
		return nil, err
	}
	defer within.Close()
	return within.Handle(m.Source)
}

// arrangeSecrets writes the values into the private tmpfs and binds each,
// read-only, to where the step expects it.
func (r *root) arrangeSecrets(req *Request) error {
	for i, s := range req.Secrets {
		file := filepath.Join(r.scratch, "secret-"+strconv.Itoa(i))
		err := os.WriteFile(file, s.Value, 0o400)
		if err == nil && req.UID != 0 && !req.MapUser {
			err = os.Chown(file, int(req.UID), int(req.GID))
		}
		if err == nil {
			err = unix.Mount(file, file, "", unix.MS_BIND, "")
		}
		if err == nil {
			const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
			err = unix.Mount("", file, "", flags, "")
		}
		if err != nil {
			return fmt.Errorf("mount secret %s: %w", s.Target, err)
		}
		if err := r.attach(file, s.Target); err != nil {
			return err
		}
	}
	return nil
}

// arrangeCwd checks the working directory while a good message is possible.
func (r *root) arrangeCwd(req *Request) error {
	info, err := r.inside.Stat(req.Cwd)
	if err != nil || !info.IsDir() {
		return fmt.Errorf("the working directory %s does not exist in the image", req.Cwd)
	}
	return nil
}

// pivot makes the arranged root this process's root and lets go of the host's.
func (r *root) pivot() error {
	if err := os.Chdir(r.path); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return os.Chdir("/")
}
