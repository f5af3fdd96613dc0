// Package worker runs one command in a root file system of its own.
//
// A worker is the program again, as the first process of its own process,
// mount, IPC and UTS namespaces. It arranges the root, with /proc, /dev, /sys,
// name resolution, mounts and secrets over the files that are there, makes it its
// root, runs the command confined, or has an OCI runtime do it, and takes off
// again what it has put there. To kill it is to end all that it has started and
// to undo all its mounts.
//
// A program that uses it has to register [Main] under [Name] with reexec and to
// call reexec.Init first in main. Then [Run] runs a [Request] and returns a
// [Report]. The process that calls Run must be root in its user namespace, and
// be allowed to mount. A [Session] connects the command with a person.
//
// What it does not do: it makes no user namespace to be root in; it looks up
// neither users nor groups in the root; it makes no layer of what the command has
// changed, and does not know builds, images or the store.
package worker
