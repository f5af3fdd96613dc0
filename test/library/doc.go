// Package library builds images as another program would that imports
// pkg/builder: many in one process, in one store and in several. What must be
// true is that nothing of a build stays in the process: no goroutine, no file
// descriptor, no mount, no child; and, under the race detector, that builds
// side by side do not touch each other:
//
//	hack/torture --library
//
// The tests have the build tag integration; there is no other code.
package library
