package worker

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"go.podman.io/storage/pkg/idmap"
	"go.podman.io/storage/pkg/idtools"
	"golang.org/x/sys/unix"
)

// Two ways let a command run as a user of the image while its files in a
// mounted directory belong to the person who runs it, whom a namespace knows
// as root: root of the host maps the ids of the mount; anybody else gives the
// command a user namespace in which the two ids have changed places.

// mapUser starts the command in a user namespace in which the user that we
// are, root, is req.UID.
func mapUser(attr *syscall.SysProcAttr, req *Request) error {
	uids, err := idRanges("/proc/self/uid_map")
	if err != nil {
		return err
	}
	gids, err := idRanges("/proc/self/gid_map")
	if err != nil {
		return err
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	for _, m := range swapped(req.UID, uids) {
		attr.UidMappings = append(attr.UidMappings, syscall.SysProcIDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	for _, m := range swapped(req.GID, gids) {
		attr.GidMappings = append(attr.GidMappings, syscall.SysProcIDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	attr.GidMappingsEnableSetgroups = !req.SingleID
	return nil
}

// An idRange is ids from first on.
type idRange struct{ first, size uint64 }

func (r idRange) has(id uint64) bool { return id >= r.first && id-r.first < r.size }

// swapped maps 0 to id, id to 0 if the ranges have it, and the other ids of
// the ranges to themselves. An extent never spans two ranges, which the kernel
// would refuse; see user_namespaces(7).
func swapped(id uint32, ranges []idRange) []idtools.IDMap {
	maps := []idtools.IDMap{{ContainerID: int(id), HostID: 0, Size: 1}}
	same := func(first, end uint64) {
		if first < end {
			maps = append(maps, idtools.IDMap{ContainerID: int(first), HostID: int(first), Size: int(end - first)})
		}
	}
	for _, r := range ranges {
		first, end := max(r.first, 1), r.first+r.size
		if id != 0 && r.has(uint64(id)) {
			maps = append(maps, idtools.IDMap{ContainerID: 0, HostID: int(id), Size: 1})
			same(first, uint64(id))
			first = uint64(id) + 1
		}
		same(first, end)
	}
	return maps
}

// idRanges are the ids that this namespace has.
func idRanges(file string) ([]idRange, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the user mapping: %w", err)
	}
	var ranges []idRange
	for line := range strings.Lines(string(data)) {
		var r idRange
		var outside uint64
		if _, err := fmt.Sscan(line, &r.first, &outside, &r.size); err != nil {
			return nil, fmt.Errorf("read the user mapping: %w", err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// IDs are the user and group ids of a user namespace: the kernel refuses to give
// a file to any other, with EINVAL.
type IDs struct{ users, groups []idRange }

// CurrentIDs are those of this process's namespace.
func CurrentIDs() (ids IDs, err error) {
	if ids.users, err = idRanges("/proc/self/uid_map"); err != nil {
		return IDs{}, err
	}
	ids.groups, err = idRanges("/proc/self/gid_map")
	return ids, err
}

// Has reports whether both are among the ids.
func (i IDs) Has(uid, gid int) bool {
	has := func(ranges []idRange, id int) bool {
		return id >= 0 && slices.ContainsFunc(ranges, func(r idRange) bool { return r.has(uint64(id)) })
	}
	return has(i.users, uid) && has(i.groups, gid)
}

// Users is how many user ids there are.
func (i IDs) Users() (total uint64) {
	for _, r := range i.users {
		total += r.size
	}
	return total
}

// String is such as "the user and group ids 0-65536".
func (i IDs) String() string {
	text := func(ranges []idRange) string {
		var all []string
		for _, r := range joined(ranges) {
			all = append(all, fmt.Sprintf("%d-%d", r.first, r.first+r.size-1))
		}
		return strings.Join(all, ", ")
	}
	users, groups := text(i.users), text(i.groups)
	if users == groups {
		return "the user and group ids " + users
	}
	return fmt.Sprintf("the user ids %s and the group ids %s", users, groups)
}

// joined makes one range of those that follow one another.
func joined(ranges []idRange) (all []idRange) {
	for _, r := range ranges {
		if n := len(all); n > 0 && all[n-1].first+all[n-1].size == r.first {
			all[n-1].size += r.size
			continue
		}
		all = append(all, r)
	}
	return all
}

// mountMapped shows source at target with the ids of root and of the
// command's user changed.
func mountMapped(source, target string, req *Request) error {
	fd, err := mappedTree(source, req.UID, req.GID)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return nil
}

// TryIDMap says why source cannot be shown with the ids changed as Mount.IDMap
// asks for; nil means that it can.
func TryIDMap(source string, uid, gid uint32) error {
	fd, err := mappedTree(source, uid, gid)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// mappedTree is a mount of source that is nowhere yet. That some file systems
// cannot do it is found out by trying.
func mappedTree(source string, uid, gid uint32) (_ int, err error) {
	all := []idRange{{size: 1<<32 - 1}} // the very last id means "none"
	pid, end, err := idmap.CreateUsernsProcess(swapped(uid, all), swapped(gid, all))
	if err != nil {
		return -1, fmt.Errorf("make a user namespace: %w", err)
	}
	defer end()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("mount_setattr", err)
	}
	return fd, nil
}
