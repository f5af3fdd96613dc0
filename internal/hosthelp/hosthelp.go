// Package hosthelp is the one table of what a host can lack for a build: what
// that means, and what to do with and without an administrator. Errors about
// the host and 'pdibuild doctor' take their words from here, so that both say
// the same. It looks at nothing but what tells the causes of a missing user
// namespace apart, and who needs ids that nobody has.
package hosthelp

import (
	"os"
	"slices"
	"strings"
)

// A Topic is one thing that a host can lack.
type Topic string

// The topics.
const (
	UserNamespaces          Topic = "user-namespaces"
	UserNamespacesDebian    Topic = "user-namespaces-debian"
	UserNamespacesMax       Topic = "user-namespaces-max"
	UserNamespacesAppArmor  Topic = "user-namespaces-apparmor"
	UserNamespacesContainer Topic = "user-namespaces-container"
	UserNamespacesChroot    Topic = "user-namespaces-chroot"
	UserNamespacesUnmapped  Topic = "user-namespaces-unmapped"
	Mounts                  Topic = "mounts"
	Process                 Topic = "process"
	SubordinateIDs          Topic = "subordinate-ids"
	NewUIDMap               Topic = "newuidmap"
	NewUIDMapBroken         Topic = "newuidmap-broken"
	OuterNamespace          Topic = "outer-namespace"
	SmallRange              Topic = "small-range"
	Seccomp                 Topic = "seccomp"
	Kernel                  Topic = "kernel"
	Store                   Topic = "store"
	StorePermission         Topic = "store-permission"
	VFS                     Topic = "vfs"
	VFSKept                 Topic = "vfs-kept"
	PodmanDriver            Topic = "podman-driver"
	Fuse                    Topic = "fuse-overlayfs"
	ManyLayers              Topic = "many-layers"
	NetworkFileSystem       Topic = "network-file-system"
	MemoryFileSystem        Topic = "memory-file-system"
	Attributes              Topic = "extended-attributes"
	Disk                    Topic = "disk"
	Inodes                  Topic = "inodes"
	DiskErrors              Topic = "disk-errors"
	OtherDisk               Topic = "other-disk"
	OtherDiskErrors         Topic = "other-disk-errors"
	OtherPermission         Topic = "other-permission"
	TemporaryDirectory      Topic = "temporary-directory"
	Home                    Topic = "home"
	HomeNotNeeded           Topic = "home-not-needed"
	Sandbox                 Topic = "sandbox"
	Runtime                 Topic = "oci-runtime"
	OpenFiles               Topic = "open-files"
	Memory                  Topic = "memory"
	Clock                   Topic = "clock"
	Policy                  Topic = "policy"
	RegistriesConf          Topic = "registries-conf"
	Credentials             Topic = "credentials"
	Registry                Topic = "registry"
	BootstrapTool           Topic = "bootstrap-tool"
	Git                     Topic = "git"
)

// A Help is what there is to say about a topic.
type Help struct {
	// Means says what the lack of it means for a build here.
	Means string
	// Admin completes "an administrator can"; empty where none can help.
	Admin string
	// User is what to do without an administrator, as an instruction.
	User string
}

// Hint is both ways out in one line.
func (h Help) Hint() string {
	var ways []string
	if h.User != "" {
		ways = append(ways, h.User)
	}
	if h.Admin != "" {
		ways = append(ways, "an administrator can "+h.Admin)
	}
	return strings.Join(ways, "; ")
}

// For returns what there is to say about a topic; every constant has an entry.
func For(t Topic) Help { return table[t] }

// Here is For with this host's user and a range of ids that is free here, so
// that the command can be pasted.
func Here(t Topic) Help {
	u := CurrentUser()
	return table[t].pasted(u, u.GiveRange())
}

// HereForPlace is Here for a topic about a file or directory that is named.
func HereForPlace(t Topic, place string) Help {
	h := Here(t)
	h.User = strings.ReplaceAll(h.User, anyPlace, place)
	return h
}

// HereForID is Here for SmallRange where one certain id is lacking.
func HereForID(id uint64) Help {
	u := CurrentUser()
	h := table[SmallRange].pasted(u, u.GiveID(id))
	if u.GiveID(id) == "" {
		h.Admin = "" // there are not so many
	}
	return h
}

func (h Help) pasted(u User, command string) Help {
	if strings.Contains(h.Admin, anyRange) && !u.IsRoot() && !u.Unmapped {
		h.Admin = strings.ReplaceAll(h.Admin, anyRange, command)
	}
	return h
}

// Topics lists the topics in order.
func Topics() []Topic {
	var all []Topic
	for t := range table {
		all = append(all, t)
	}
	slices.Sort(all)
	return all
}

const (
	noNamespace = "an ordinary user cannot build or run anything here: pdibuild is root only in a user namespace of its own, and this host gives it none"
	otherHost   = "build on another host, or in a CI job (docs/ci.md)"
	fullCopies  = "every layer is a full copy of the image: builds are slower and need several times the room"
	makeRoom    = "free what nothing needs with 'pdibuild cache prune --all', after 'pdibuild rm' of images that have a name"
	localDisk   = "choose a directory on a local disk, such as --storage-root /scratch/$USER/pdibuild"
	anyPlace    = "PLACE"
	anyRange    = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
	addRange    = "give a range with '" + anyRange + "'"
)

// table is never changed.
var table = map[Topic]Help{
	UserNamespaces: {
		Means: noNamespace,
		Admin: "allow it with 'sysctl kernel.unprivileged_userns_clone=1' (Debian), 'sysctl kernel.apparmor_restrict_unprivileged_userns=0' (Ubuntu) or 'sysctl user.max_user_namespaces=15000'",
		User:  otherHost + "; inside a container, start that with '--security-opt seccomp=unconfined'",
	},
	UserNamespacesDebian: {
		Means: noNamespace,
		Admin: "allow it with 'sysctl kernel.unprivileged_userns_clone=1', and for good with that setting in /etc/sysctl.d/50-userns.conf",
		User:  otherHost,
	},
	UserNamespacesMax: {
		Means: noNamespace,
		Admin: "allow it with 'sysctl user.max_user_namespaces=15000', and for good with that setting in /etc/sysctl.d/50-userns.conf",
		User:  otherHost,
	},
	UserNamespacesAppArmor: {
		Means: noNamespace,
		Admin: "allow it with 'sysctl kernel.apparmor_restrict_unprivileged_userns=0', or for this program alone with an AppArmor profile that has 'userns,'",
		User:  otherHost,
	},
	UserNamespacesContainer: {
		Means: noNamespace,
		Admin: "",
		User:  "start the container around this program with '--security-opt seccomp=unconfined' (docker, podman), or build outside of it",
	},
	UserNamespacesChroot: {
		Means: noNamespace,
		User:  "start it outside of the chroot: the kernel gives an ordinary user in one no user namespace",
	},
	UserNamespacesUnmapped: {
		Means: noNamespace,
		User:  "leave the user namespace that is around this program, or make it with a mapping, such as 'unshare --map-root-user'",
	},
	Mounts: {
		Means: "no root file system can be arranged, so no step can run",
		User:  "in a container, start that with '--security-opt seccomp=unconfined' or with CAP_SYS_ADMIN; elsewhere, leave the sandbox around this program",
	},
	Process: {
		Means: "pdibuild cannot find out which rights it has",
		User:  "make /proc available to this program: a container or chroot around it hides it",
	},
	SubordinateIDs: {
		Means: "there is one user id: builds work and give the same images, but slower where many files are looked at, and a step that becomes another user fails (docs/rootless.md)",
		Admin: addRange,
		User:  "nothing has to be done",
	},
	NewUIDMap: {
		Means: "the ranges in /etc/subuid and /etc/subgid are not used, so there is one user id (docs/rootless.md)",
		Admin: "install the programs with 'apt-get install uidmap' (Debian, Ubuntu) or 'dnf install shadow-utils' (Fedora, RHEL)",
		User:  "nothing has to be done: builds work with one id, too",
	},
	NewUIDMapBroken: {
		Means: "the ranges in /etc/subuid and /etc/subgid cannot be used, so there is one user id; an image store made with them does not fit it",
		Admin: "restore the rights of the programs with 'chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap', and check that the ranges overlap no others",
		User:  "use another store (--storage-root DIR); leave a sandbox that forbids set-user-ID programs (no_new_privs)",
	},
	OuterNamespace: {
		Means: "builds use the ids of the user namespace that another program has made, not the ranges in /etc/subuid and /etc/subgid; with a single one they give the same images, but slower (docs/rootless.md)",
		User:  "start pdibuild outside of that namespace",
	},
	SmallRange: {
		Means: "images with files of users above the range cannot be unpacked, nor made",
		Admin: addRange,
		User: "choose an owner within the range, or a base image without such files (Debian's need ids up to 65534); " +
			"or build with a single id, which stands for every owner: 'unshare --map-root-user pdibuild build --storage-root DIR'",
	},
	PodmanDriver: {
		Means: "podman and buildah of this user keep images with vfs, and do not see those that are made here with overlay",
		User: "'pdibuild run' runs them; for podman, put 'driver = \"overlay\"' under '[storage]' into ~/.config/containers/storage.conf and, if it was used before, " +
			"remove libpod/bolt_state.db in the image store, by which podman forgets its containers and the images of vfs (docs/rootless.md)",
	},
	Seccomp: {
		Means: "with a single user id, steps that give files to other users, such as apt-get install, fail",
		Admin: "give a range of ids instead ('" + anyRange + "'), or Linux 5.6 or newer",
		User:  "leave the sandbox or container that forbids seccomp(2), or build on another host",
	},
	Kernel: {
		Means: "without root, this kernel mounts no overlay: layers are mounted by fuse-overlayfs where it is installed, else copied in full",
		Admin: "install Linux 5.13 or newer, or fuse-overlayfs",
		User:  "nothing has to be done; builds are slower",
	},
	Store: {
		Means: "images and finished steps cannot be kept",
		User:  "choose another directory with --storage-root; it must be on a local file system with room",
	},
	StorePermission: {
		Means: "images and finished steps cannot be kept",
		User:  "choose another directory with --storage-root: this one must belong to you, and be one that you can write to",
	},
	VFS: {
		Means: fullCopies,
		Admin: "install fuse-overlayfs; where the kernel is older than 5.13, a newer one helps, too",
		User:  localDisk + "; in a container, mount a volume there",
	},
	VFSKept: {
		Means: fullCopies,
		User:  "use another store (--storage-root DIR): a new one gets overlay here; this one stays as it was made, or as storage.conf or --storage-driver says",
	},
	Fuse: {
		Means: "file access in steps is slower than with the kernel's overlay",
		Admin: "install Linux 5.13 or newer",
		User:  "nothing has to be done",
	},
	ManyLayers: {
		Means: "no step can run in such an image",
		User:  "take a base image with fewer layers, or another store in which every layer is a full copy: --storage-driver vfs --storage-root DIR",
	},
	NetworkFileSystem: {
		Means: "a network file system cannot hold what an overlay needs, and is slow for many small files",
		User:  localDisk,
	},
	MemoryFileSystem: {
		Means: "images and finished steps are in memory: they are gone after a restart, and take memory from what runs",
		User:  localDisk,
	},
	Attributes: {
		Means: "with a single user id, steps cannot see whose a file is that an earlier step gave to somebody",
		User:  localDisk + " (ext4, xfs and btrfs have user extended attributes)",
	},
	Disk: {
		Means: "a build of a usual image may not fit",
		Admin: "make room, or raise your quota",
		User:  makeRoom + "; or " + localDisk,
	},
	Inodes: {
		Means: "an image has tens of thousands of files, and no more can be made here",
		Admin: "make a file system with more inodes",
		User:  makeRoom + "; or " + localDisk,
	},
	DiskErrors: {
		Means: "what was read or written may be wrong: nothing of the step is kept",
		Admin: "look into the kernel's log ('dmesg') and check the disk",
		User:  "choose a directory on another disk, such as --storage-root /scratch/$USER/pdibuild",
	},
	OtherDisk: {
		Means: "what was asked for beside the image cannot be written",
		User:  "make room where PLACE is, or choose another place",
	},
	OtherDiskErrors: {
		Means: "what was asked for beside the image cannot be written",
		Admin: "look into the kernel's log ('dmesg') and check the disk",
		User:  "choose another place than PLACE",
	},
	OtherPermission: {
		Means: "what was asked for beside the image cannot be written",
		User:  "choose another place: nothing can be written to PLACE",
	},
	TemporaryDirectory: {
		Means: "programs that steps and registries need cannot write temporary files",
		User:  "set TMPDIR to a directory that you can write to",
	},
	Home: {
		Means: "the image store, credentials and settings are looked for in the home directory",
		User:  "set HOME to a directory that you can write to, or give --storage-root, and --authfile for credentials",
	},
	HomeNotNeeded: {
		Means: "the image store is somewhere else; only settings and credentials are looked for in the home directory",
		User:  "nothing has to be done; --authfile names a file with credentials",
	},
	Sandbox: {
		Means: "no step can run",
		User:  "in a container, start that with '--security-opt seccomp=unconfined'; elsewhere, leave the sandbox that forbids mounts",
	},
	Runtime: {
		Means: "steps run in namespaces of their own without an OCI runtime; results are the same",
		Admin: "install crun or runc",
		User:  "nothing has to be done, unless you say --isolation oci",
	},
	OpenFiles: {
		Means: "stages that run side by side may run out of open files",
		Admin: "raise 'nofile' in /etc/security/limits.conf",
		User:  "raise it with 'ulimit -n 4096', or build with --jobs 1",
	},
	Memory: {
		Means: "compilers may be killed for memory",
		User:  "build with --jobs 1, and give commands such as make fewer jobs",
	},
	Clock: {
		Means: "certificates of registries and mirrors count as expired or not yet valid",
		Admin: "set the clock, for example with 'timedatectl set-ntp true'",
		User:  "ask for that; until then only registries and mirrors that are reached without TLS work. Images stay the same: their times come from the recipe",
	},
	Policy: {
		Means: "no image can be fetched or pushed",
		Admin: "repair or remove /etc/containers/policy.json; without one, a default applies that accepts every image",
		User:  `repair or remove ~/.config/containers/policy.json; a right one there, such as '{"default": [{"type": "insecureAcceptAnything"}]}', is used instead of that in /etc/containers`,
	},
	RegistriesConf: {
		Means: "no image can be fetched or pushed",
		Admin: "repair or remove /etc/containers/registries.conf; without one, names without a registry are looked for at docker.io",
		User:  "repair or remove ~/.config/containers/registries.conf; a right one there, even an empty one, is used instead of that in /etc/containers",
	},
	Credentials: {
		Means: "private images cannot be fetched, and none can be pushed",
		User:  "repair the file, or log in with 'podman login REGISTRY'",
	},
	Registry: {
		Means: "images there can be neither fetched nor pushed",
		Admin: "open the way to it, or name a proxy",
		User:  "check the name; set https_proxy where a proxy is needed; give --cert-dir or --tls-verify=false for a certificate of the site's own",
	},
	Git: {
		Means: "recipes with 'spack' steps cannot fetch Spack",
		Admin: "install it with 'apt-get install git'",
		User:  "give a directory that has Spack: 'spack: {path: DIRECTORY}'",
	},
	BootstrapTool: {
		Means: "recipes that start from a Debian mirror (from: mmdebstrap:…) cannot be built; images from a registry or a file can",
		Admin: "install it with 'apt-get install mmdebstrap'",
		User:  "start from a registry image or a file",
	},
}

// NoUserNamespace finds out which of the causes it is that there is no user
// namespace; found is what says so.
func NoUserNamespace() (t Topic, found string) {
	if CurrentUser().Unmapped {
		return UserNamespacesUnmapped, "this is in a user namespace that does not map its user"
	}
	settings := []struct {
		path, forbids string
		topic         Topic
	}{
		{"kernel/unprivileged_userns_clone", "0", UserNamespacesDebian},
		{"user/max_user_namespaces", "0", UserNamespacesMax},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", UserNamespacesAppArmor},
	}
	for _, s := range settings {
		value, err := os.ReadFile("/proc/sys/" + s.path)
		if err == nil && strings.TrimSpace(string(value)) == s.forbids {
			return s.topic, strings.ReplaceAll(s.path, "/", ".") + " is " + s.forbids
		}
	}
	if inChroot("/proc/self/mountinfo") {
		return UserNamespacesChroot, "this is inside of a chroot"
	}
	if name := Container(); name != "" {
		return UserNamespacesContainer, "this is inside of " + name
	}
	return UserNamespaces, "no setting says why"
}

// inChroot reports whether nothing is mounted at the root of this process: then
// it is a directory in another root, and chroot(2) has made it one.
func inChroot(mounts string) bool {
	data, err := os.ReadFile(mounts)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/" {
			return false
		}
	}
	return true
}

// Container names what this process is inside of, "" if that shows nowhere.
func Container() string {
	for _, c := range []struct{ path, name string }{
		{"/run/.containerenv", "a podman container"},
		{"/.dockerenv", "a docker container"},
		{"/.singularity.d", "an Apptainer container"},
		{"/var/run/secrets/kubernetes.io", "a Kubernetes pod"},
	} {
		if _, err := os.Stat(c.path); err == nil {
			return c.name
		}
	}
	return ""
}
