// Package layer writes image layers as tar streams whose bytes depend on
// nothing but what is in the layer: not on the host, the user, the storage
// driver, the clock or the order in which files were made.
//
// Normalize turns a stream as containers/storage gives it out into such a
// stream. A Tree collects entries in any order and encodes them as one.
//
// # The canonical form
//
// Entries come in the order of a walk through the directories: names are
// compared component by component, each as bytes, a directory before what is
// in it. ("a", "a/b", "a-b"; not "a", "a-b", "a/b".) A whiteout stands where
// the file it hides would stand, an opaque whiteout right after its directory.
// Of the names of a hard-linked file, the first is the file and the others are
// links to it.
//
// Directories end in "/", nothing begins with "./" or "/", and the root
// directory has an entry, "./", only where it is not as in the layers below.
// Headers have no user and group names, no access and change times, whole
// seconds between 1970 and the epoch as modification times, and the lowest
// twelve mode bits. Whiteouts are empty files of mode 0 that belong to 0:0 and
// have the epoch as time. A file that is called like a whiteout (.wh.*) is
// refused: the layer would remove another file.
//
// The format is USTAR for every entry that USTAR can carry, and PAX for the
// others: long or non-ASCII names, files of 8 GiB and more, ids above 2097151
// and extended attributes (sorted). Names keep their bytes, also when they are
// not UTF-8: Go, GNU tar and containers/storage agree in reading PAX paths as
// bytes, and GNU's own long names cannot stand beside extended attributes.
//
// Of the extended attributes stay user.* and security.capability, the latter
// always in its version 2: what a user namespace adds (version 3) says who
// built the layer, not what it is. Attributes that belong to the overlay file
// system, to storage drivers or to pdibuild, SELinux labels, ACLs and IMA
// signatures are left out, because they depend on the host or on privileges.
//
// # What it does not do
//
// It does not compare files with those below: one storage driver may list a
// file that has been opened for writing but not changed, and another may not.
// Two more differences between drivers can be evened out: see Options.Changed
// and Options.Lower. And a Tree does not invent parent directories: unpacking
// a layer that lacks one may hide the mode of the directory below. See
// Tree.MissingParents.
package layer
