// Package spackdouble is a test double of the spack command. It stands for the
// flow of a build alone: which commands come in which order, what is kept, what
// is taken from the binary cache, and how the binary cache is written. What Spack
// itself does is for hack/test-spack, which runs with the real one.
package spackdouble

import _ "embed"

// Script is the program, for /bin/sh. Its head says what it can do.
//
//go:embed spack
var Script string

// App and Base are the hashes of the packages app and base in Script. Who
// replaces them in it gets other packages.
const (
	App  = "appappappappappappappappappappap"
	Base = "basebasebasebasebasebasebasebase"
)
