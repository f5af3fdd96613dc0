// Package torture does to the real program what the world does to builds: it
// kills them, fills their disks, breaks their registries and starts many at
// once. What must be true afterwards is always the same: the next build ends
// right, with the digest of one that was left alone, and nothing stays behind.
//
// hack/torture runs it and prints its figures. A failure names the seed that
// repeats it:
//
//	hack/torture -seed 7 -kills 100 -run Kill
//
// The tests have the build tag integration; there is no other code.
package torture
