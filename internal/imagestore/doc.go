// Package imagestore opens the image store of containers/storage, the one that
// podman and buildah use, and keeps it safe.
//
// Open comes first: it chooses a storage driver that works here, if none is
// named, and gives a [Store], which is the library's own with a guard before
// its calls. Close is its end. Mend clears up after processes that were killed.
//
// The guard is needed because the storage library panics where it cannot open
// or lock one of its lock files, when a disk fails or somebody removes the
// store: that would end the program in the middle of its work, and what the
// library holds at that moment stays locked in the process, so that whoever
// survives waits for ever. Such a store is lost: its calls, also those that
// wait, fail at once, [Options] has a function that is told, and Open refuses
// it until the process ends. Another process finds the store as it is on the
// disk. Whoever calls the library's GetStore by himself has no such guard.
//
// The package knows nothing of builds: what is kept beside the layers, which
// layers may be removed, and what to advise when a store fails ([IsDiskError]
// says whether the disk is to blame) are pkg/builder's.
package imagestore
