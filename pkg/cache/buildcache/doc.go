// Package buildcache reads and writes Spack's binary caches: the directories
// and the registry repositories that `spack buildcache push` makes and that
// `spack install` takes packages from.
//
// Call Open first, with one of
//
//	/path/to/cache  file:///path      a directory, layout 3 (v3/manifests, blobs)
//	                                  or layout 2 (build_cache), which is read only
//	https://host/path  http://…       the same, served by a web server; read only
//	oci://host/name  oci+http://…     a repository in a container registry
//
// Then List and Info tell what is in the cache, Verify whether all of it is
// there and sound, Copy brings packages from one cache to another, Index makes
// the index that Spack concretizes with, and Prune removes packages. Push makes
// packages of what is installed, Pull unpacks them into an install tree.
//
// Nothing is ever half done: a package appears in a cache only when all it
// consists of is there, the index is replaced in one piece, and what was
// interrupted goes on from what has arrived. Archives are streamed, whatever
// their size; only what describes packages is held in memory.
//
// Signatures are kept, and checked where keys are given. The package does not
// sign, and does not write layout 2.
package buildcache
