package builder

import (
	"os"

	"go.podman.io/buildah"
	"go.podman.io/storage/pkg/reexec"

	"github.com/pdidev/pdibuild/internal/namespace"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/worker"
)

// Init has to be the first call in main. It reports whether this process is a
// helper that the package has started by running the program again; then its
// work is done and main has to return.
func Init() bool {
	reexec.Register(worker.Name, worker.Main)
	return ownership.InitReexec() || buildah.InitReexec()
}

// Main calls run where images can be built, and ends the program with the exit
// code that run returns. It has to be the first call in main: parts of a build
// are this program, started again, and run is called in one in a namespace of
// its own (see EnterNamespace), with the same arguments, environment and files.
//
// It returns only if this host does not allow that: a *HostError says why. A
// program that builds for some of its arguments only, and wants to begin quickly
// for the others, calls Init and EnterNamespace itself.
func Main(run func() int) error {
	if Init() {
		os.Exit(0) //nolint:forbidigo // a helper of a build has done its work
	}
	if err := EnterNamespace(); err != nil {
		return err
	}
	os.Exit(run()) //nolint:forbidigo // to end the program is what Main is for
	return nil
}

// EnterNamespace runs the program again with the same arguments in a mount
// namespace of its own and, for an ordinary user, in a user namespace in which
// the user is root; the process that called it passes signals on, waits and
// exits with the same status. Inside it returns nil at once. Mounts made by a
// build are then invisible to the host and go away with the process, however
// it ends.
//
// The user's ranges in /etc/subuid and /etc/subgid are mapped. A user without
// any gets a namespace with a single user id. The umask becomes 022.
//
// The error is a *HostError if this host does not allow that.
func EnterNamespace() error {
	captureLibraryLog()
	return namespace.Enter()
}

// OwnUserNamespace reports whether EnterNamespace has made the user namespace
// that this process is in. Otherwise it is the host's own, or one that another
// program has made.
func OwnUserNamespace() bool { return namespace.Own() }

// identity describes the ids that this process can give to files.
type identity struct {
	// single is set when there is just one.
	single bool
	// rootless is set in a user namespace.
	rootless bool
	// all are those ids.
	all worker.IDs
}

func currentIdentity() (identity, error) {
	ids, err := worker.CurrentIDs()
	if err != nil {
		return identity{}, err
	}
	total := ids.Users()
	return identity{single: total == 1, rootless: total < 1<<32-1, all: ids}, nil
}
