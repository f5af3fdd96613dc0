// Package builder makes container images from recipes, through the Buildah
// and containers/storage libraries, without a daemon and without root.
//
// Call Init first thing in main: parts of a build run in re-executed copies of
// the program. Then, in a process that has no privileges, EnterNamespace gives
// it a user namespace of its own. Open opens the image store, Plan works out
// what has to be done, Build does it, Push and Export send the image away:
//
//	func main() {
//		if builder.Init() {
//			return
//		}
//		if err := builder.EnterNamespace(); err != nil { … }
//		b, err := builder.Open(builder.StoreOptions{})
//		…
//		plan, err := b.Plan(ctx, rec, dir, builder.PlanOptions{})
//		…
//		result, err := b.Build(ctx, plan, builder.BuildOptions{Tags: []string{"demo"}})
//	}
//
// The package never writes to standard output, never exits the process (save
// for EnterNamespace, whose only job is to run the program again) and reads no
// environment variable for configuration. Progress is reported as Event
// values, output of steps goes to io.Writers.
package builder
