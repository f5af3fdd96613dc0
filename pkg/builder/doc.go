// Package builder makes container images from recipes, through the Buildah
// and containers/storage libraries, without a daemon and without root.
//
// Main comes first in a program: parts of a build run in copies of it, and an
// ordinary user needs a namespace. Then Open opens the image store, Plan works
// out what has to be done, Build does it, Push and Export send the image away:
//
//	func main() {
//		err := builder.Main(run) // returns only if this host cannot build
//		…
//	}
//
//	func run() (exitCode int) {
//		b, err := builder.Open(builder.StoreOptions{})
//		…
//		plan, err := b.Plan(ctx, rec, dir, builder.PlanOptions{})
//		…
//		result, err := b.Build(ctx, plan, builder.BuildOptions{Tags: []string{"1.0"}})
//		…
//	}
//
// The example is a whole program that needs no file; examples/library is
// another one.
//
// A process may build as often as it likes, and in several stores at once;
// after Close nothing of a build is left in it (hack/torture --library sees to
// that). What the libraries below keep for the whole process sets limits:
//
//   - The namespace is the process's: Main, or EnterNamespace, has to come before
//     the program starts its work, and all Builders have the same ids and the same
//     private mounts. Two users need two processes.
//   - All Builders of one Root share what the first one was opened with: its
//     Driver holds until the last of them is closed. Stores that have the same
//     Root and different RunRoots must not be open at the same time.
//   - A program that uses go.podman.io/storage besides must not call Shutdown
//     or Free on a store that a Builder has open.
//   - Open switches the log of those libraries (the global one of logrus) off.
//   - Idle connections to a Spack binary cache, to where an attachment went and
//     to where a URL was copied from are closed after 90 s.
//
// The package never writes to standard output, never exits the process (save
// for Main and EnterNamespace, whose job is to run the program again) and reads no
// environment variable for configuration. Progress is reported as Event
// values, output of steps goes to io.Writers.
package builder
