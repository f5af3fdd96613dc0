// Package differential builds random images twice, with the real program and
// with Buildah from the equal Containerfile, and compares what comes out: which
// of the two refuses, the files with everything that they have, and the
// configuration. It also builds them as the other kinds of users and with the
// other storage drivers, where the image's id has to be the same.
//
// A scenario is a context with all kinds of files, and stages whose steps copy,
// move, link, replace and remove. Scenario N is always the same one:
//
//	hack/differential -seed 417 -count 1
//
// A difference that is not in the table of intended ones (intended_test.go and
// docs/containerfile.md) is a failure. The scenario is made smaller as long as
// the difference stays, and printed as a recipe and a Containerfile.
//
// Root is needed: the test makes a mount namespace of its own, with its stores
// in memory and with an /etc/passwd that has the users it builds as.
//
// The tests have the build tag integration; there is no other code.
package differential
