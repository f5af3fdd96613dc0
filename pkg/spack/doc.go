// Package spack reads and writes what Spack itself reads and writes: the
// environment file spack.yaml with its container: section, the lock file
// spack.lock, the database of an install tree, the index and the manifests of
// a binary cache, the lines that an installation prints, and the shell code
// that activates an environment.
//
// Begin with ParseEnvironment; Environment.Rewrite makes the spack.yaml that
// an image gets. ParseLock says what will be there, Lock.Closure which of it
// is needed to run. Output is an io.Writer for the output of spack install.
//
// The package is pure: it runs nothing, reads no files and no environment
// variables, and does not use the network. Everything it is given may be
// hostile: inputs have a largest size, and problems are errors.
package spack
