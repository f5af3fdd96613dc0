package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// stepHostname is the same on every host, because programs like to store it.
const stepHostname = "pdibuild"

// root is a root file system being arranged for one command: the working
// layer with /proc, /dev, /sys, name resolution, mounts and secrets over it.
type root struct {
	path, scratch string
	pivoted       bool
	// mounted and created are what tidy undoes, as paths in the root.
	mounted, created []string
	// times are the modification times of directories in which we created
	// mount points.
	times map[string]time.Time
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
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV}
	err := unix.MountSetattr(unix.AT_FDCWD, r.path, unix.AT_RECURSIVE, attr)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12
		err = unix.Mount("", r.path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV, "")
	}
	if err != nil {
		return fmt.Errorf("prepare the root: %w", err)
	}
	r.times = map[string]time.Time{}
	return nil
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
	target, err := r.target("/proc", true)
	if err != nil {
		return err
	}
	if req.PIDNamespace {
		err = unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil || !req.PIDNamespace {
		err = unix.Mount("/proc", target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, p := range maskedPaths {
		if rel, ok := strings.CutPrefix(p, "/proc/"); ok {
			r.mask(filepath.Join(target, rel))
		}
	}
	for _, p := range readOnlyPaths {
		r.readOnly(filepath.Join(target, strings.TrimPrefix(p, "/proc/")))
	}
	return nil
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
	target, err := r.target("/sys", true)
	if err != nil {
		return err
	}
	if err := unix.Mount("/sys", target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return nil //nolint:nilerr // some sandboxes hide /sys; few programs miss it
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	_ = unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, attr)
	for _, p := range maskedPaths {
		if rel, ok := strings.CutPrefix(p, "/sys/"); ok {
			r.mask(filepath.Join(target, rel))
		}
	}
	return nil
}

func (r *root) arrangeDev(req *Request) error {
	target, err := r.target("/dev", true)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	nodes := []string{"null", "zero", "full", "random", "urandom"}
	if req.Runtime == "" { // a runtime makes its own tty, and stumbles over ours
		nodes = append(nodes, "tty")
	}
	for _, name := range nodes {
		node := filepath.Join(target, name)
		if err := os.WriteFile(node, nil, 0o666); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		if err := unix.Mount("/dev/"+name, node, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	return r.arrangeDevMounts(target)
}

func (r *root) arrangeDevMounts(dev string) error {
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

// arrangeNames gives the step the host's view of host names.
func (r *root) arrangeNames(req *Request) error {
	hosts, _ := os.ReadFile("/etc/hosts")
	if !req.HostNames {
		hosts = append([]byte("127.0.0.1 localhost "+stepHostname+"\n::1 localhost ip6-localhost\n"), hosts...)
	}
	if err := r.bindContent("hosts", "/etc/hosts", hosts); err != nil {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil || req.NoNetwork {
		resolv = []byte("# no network\n")
	}
	return r.bindContent("resolv.conf", "/etc/resolv.conf", resolv)
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

func (r *root) bindContent(name, path string, content []byte) error {
	file := filepath.Join(r.scratch, name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	target, err := r.target(path, false)
	if err != nil {
		return err
	}
	if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	return nil
}

func (r *root) arrangeMounts(req *Request) error {
	for _, m := range req.Mounts {
		if err := r.mount(m, req); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func (r *root) mount(m Mount, req *Request) error {
	if m.Type == "tmpfs" {
		target, err := r.target(m.Target, true)
		if err != nil {
			return err
		}
		data := "mode=1777"
		if m.Size != "" {
			data += ",size=" + m.Size
		}
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data)
	}
	source, err := m.Open()
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := r.target(m.Target, info.IsDir())
	if err != nil {
		return err
	}
	opened := "/proc/self/fd/" + strconv.Itoa(int(source.Fd()))
	if m.IDMap {
		err = mountMapped(opened, target, req)
	} else {
		err = unix.Mount(opened, target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return err
	}
	attr := &unix.MountAttr{}
	if !m.Write {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if m.Within != "" { // it may be an image's, whose devices are not to be used
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if attr.Attr_set == 0 {
		return nil
	}
	return unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, attr)
}

// Open holds on to what is to be mounted.
func (m *Mount) Open() (*os.File, error) {
	if m.Within == "" {
		return os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return pathrs.OpenInRoot(m.Within, m.Source)
}

// arrangeSecrets writes the values into the private tmpfs and binds each,
// read-only, to where the step expects it.
func (r *root) arrangeSecrets(req *Request) error {
	for i, s := range req.Secrets {
		file := filepath.Join(r.scratch, "secret-"+strconv.Itoa(i))
		if err := os.WriteFile(file, s.Value, 0o400); err != nil {
			return fmt.Errorf("prepare secret %s: %w", s.Target, err)
		}
		if req.UID != 0 && !req.MapUser {
			if err := os.Chown(file, int(req.UID), int(req.GID)); err != nil {
				return fmt.Errorf("prepare secret %s: %w", s.Target, err)
			}
		}
		target, err := r.target(s.Target, false)
		if err != nil {
			return err
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount secret %s: %w", s.Target, err)
		}
		const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("", target, "", flags, ""); err != nil {
			return fmt.Errorf("mount secret %s: %w", s.Target, err)
		}
	}
	return nil
}

// arrangeCwd checks the working directory while a good message is possible.
func (r *root) arrangeCwd(req *Request) error {
	path, err := securejoin.SecureJoin(r.path, req.Cwd)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return fmt.Errorf("the working directory %s does not exist in the image", req.Cwd)
	}
	return nil
}

// target returns where in the root path is to be mounted, resolving symbolic
// links inside the root and creating what is missing.
func (r *root) target(path string, dir bool) (string, error) {
	full, err := securejoin.SecureJoin(r.path, path)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", path, err)
	}
	if err := r.create(full, dir); err != nil {
		return "", fmt.Errorf("mount point %s: %w", path, err)
	}
	r.mounted = append(r.mounted, full)
	return full, nil
}

func (r *root) create(full string, dir bool) error {
	if _, err := os.Lstat(full); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(full)
	if err := r.create(parent, true); err != nil {
		return err
	}
	info, err := os.Stat(parent)
	if err != nil {
		return err
	}
	if _, known := r.times[parent]; !known {
		r.times[parent] = info.ModTime()
	}
	r.created = append(r.created, full)
	if dir {
		return os.Mkdir(full, 0o755)
	}
	return os.WriteFile(full, nil, 0o644)
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
	r.pivoted = true
	return os.Chdir("/")
}

// tidy takes the mounts off and removes the mount points that were not there
// before, so that they do not become part of the image.
func (r *root) tidy() error {
	for i := len(r.mounted) - 1; i >= 0; i-- {
		_ = unix.Unmount(r.here(r.mounted[i]), unix.MNT_DETACH)
	}
	for i := len(r.created) - 1; i >= 0; i-- {
		path := r.here(r.created[i])
		info, err := os.Lstat(path)
		if err != nil || (info.Mode().IsRegular() && info.Size() > 0) {
			continue // the step has made it its own
		}
		_ = os.Remove(path) // a directory that the step has filled stays
	}
	for dir, t := range r.times {
		if err := os.Chtimes(r.here(dir), time.Time{}, t); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tidy up mount points: %w", err)
		}
	}
	return nil
}

// here is a path of the arranged root as this process sees it now.
func (r *root) here(full string) string {
	if !r.pivoted {
		return full
	}
	rel, err := filepath.Rel(r.path, full)
	if err != nil {
		return full
	}
	return "/" + rel
}
