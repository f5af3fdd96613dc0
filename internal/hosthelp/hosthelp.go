// Package hosthelp is the one table of what a host can lack for a build: what
// that means, and what to do with and without an administrator. Errors about
// the host and 'pdibuild doctor' take their words from here, so that both say
// the same. It looks at nothing but what tells the causes of a missing user
// namespace apart.
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
	Mounts                  Topic = "mounts"
	Process                 Topic = "process"
	SubordinateIDs          Topic = "subordinate-ids"
	NewUIDMap               Topic = "newuidmap"
	NewUIDMapBroken         Topic = "newuidmap-broken"
	SmallRange              Topic = "small-range"
	Seccomp                 Topic = "seccomp"
	Kernel                  Topic = "kernel"
	Store                   Topic = "store"
	StorePermission         Topic = "store-permission"
	VFS                     Topic = "vfs"
	Fuse                    Topic = "fuse-overlayfs"
	NetworkFileSystem       Topic = "network-file-system"
	MemoryFileSystem        Topic = "memory-file-system"
	Attributes              Topic = "extended-attributes"
	Disk                    Topic = "disk"
	Inodes                  Topic = "inodes"
	DiskErrors              Topic = "disk-errors"
	TemporaryDirectory      Topic = "temporary-directory"
	Home                    Topic = "home"
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
	localDisk   = "choose a directory on a local disk, such as --storage-root /scratch/$USER/pdibuild"
	addRange    = "give a range with 'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER'"
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
	SmallRange: {
		Means: "images with files of users above the range cannot be unpacked",
		Admin: addRange,
		User:  "use base images without such users; Debian's need up to 65534",
	},
	Seccomp: {
		Means: "with a single user id, steps that give files to other users, such as apt-get install, fail",
		Admin: "give a range of ids instead ('usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER'), or Linux 5.6 or newer",
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
		Means: "every layer is a full copy of the image: builds are slower and need several times the room",
		Admin: "install fuse-overlayfs, or Linux 5.13 or newer",
		User:  localDisk,
	},
	Fuse: {
		Means: "file access in steps is slower than with the kernel's overlay",
		Admin: "install Linux 5.13 or newer",
		User:  "nothing has to be done",
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
		User:  "remove images with 'pdibuild rm', or " + localDisk,
	},
	Inodes: {
		Means: "an image has tens of thousands of files, and no more can be made here",
		Admin: "make a file system with more inodes",
		User:  "remove images with 'pdibuild rm', or " + localDisk,
	},
	DiskErrors: {
		Means: "what was read or written may be wrong: nothing of the step is kept",
		Admin: "look into the kernel's log ('dmesg') and check the disk",
		User:  localDisk,
	},
	TemporaryDirectory: {
		Means: "programs that steps and registries need cannot write temporary files",
		User:  "set TMPDIR to a directory that you can write to",
	},
	Home: {
		Means: "the image store, credentials and settings are looked for in the home directory",
		User:  "set HOME to a directory that you can write to, or give --storage-root and --authfile",
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
		User:  "images stay the same: their times come from the recipe, not from the clock",
	},
	Policy: {
		Means: "no image can be fetched or pushed",
		User:  "repair or remove policy.json in ~/.config/containers or /etc/containers; without one, the built-in default applies",
	},
	RegistriesConf: {
		Means: "no image can be fetched or pushed",
		User:  "repair or remove registries.conf in ~/.config/containers or /etc/containers; without one, the built-in default applies",
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
	if name := Container(); name != "" {
		return UserNamespacesContainer, "this is inside of " + name
	}
	return UserNamespaces, "no setting says why"
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
