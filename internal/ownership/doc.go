// Package ownership lets programs that give files to other users run where
// only one user exists.
//
// A user without ranges in /etc/subuid gets a user namespace with one user id:
// inside it the user is root, and any other id does not exist, so that
// chown(2) to it fails with EINVAL. Distribution packages do such chowns when
// they are installed. A [Supervisor] runs a process tree in which they succeed:
// it answers the chown family itself, through seccomp user notifications,
// keeps the wanted owner beside the file, in the extended attribute
// [XattrName], and shows that owner again to stat(2). Whoever writes the image
// reads it back with [Owner].
//
// Call [InitReexec] first in main, then [Start], then [Supervisor.Run] for
// each command and [Supervisor.Close] at the end. The process that calls Start
// must itself be root in the user namespace of the commands.
//
// What it does not do: no process changes its identity (see
// [Supervisor.Refused]); /proc shows the kernel's groups, not [Options.Groups]; no device is made; file permissions are those of the
// real owner, which is root; a file made in a set-group-id directory gets that
// directory's real group, not the recorded one; system calls of 32-bit
// programs and those made through io_uring are not seen. A process tree can
// have one supervisor only. A FUSE file system may be served from inside the
// tree.
package ownership
