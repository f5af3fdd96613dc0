// Package seccomp keeps a step from system calls that no build needs and that
// have led out of containers: loading kernel modules, bpf, io_uring, opening
// files by handle. The rules are podman's default profile, so what runs in a
// container of podman, nested containers and debuggers too, runs in a step. One
// thing they refuse in addition, as Docker's rules do: the kernel's keyrings, to
// which a Kerberos ticket of root belongs that any process of root finds.
//
// [Profile] gives the rules for an OCI runtime. Where there is none, [Program]
// makes a filter of them and [Install] puts it on a thread; both need neither
// cgo nor libseccomp.
package seccomp
