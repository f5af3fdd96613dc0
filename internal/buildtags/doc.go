// Package buildtags makes a build with the wrong settings fail with a sentence
// that says what to do. Without the build tags, the Buildah libraries need C
// headers of gpgme and btrfs; without cgo, a program cannot start itself again
// in a user namespace. The one place that sets the tags is hack/lib.sh.
package buildtags
