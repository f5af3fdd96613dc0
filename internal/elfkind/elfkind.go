// Package elfkind tells programs, shared libraries and archives from other
// files.
package elfkind

import (
	"bytes"
	"debug/elf"
	"io"
	"slices"
)

// A Kind is a kind of file with machine code.
type Kind int

// The kinds. None is any other file.
const (
	None Kind = iota
	Program
	Shared
	Archive
)

// Of returns the kind of a file, from its first bytes and, for ELF, its header.
// Kernel modules and object files, which are relocatable, are None.
func Of(f io.ReaderAt) Kind {
	magic := make([]byte, 8)
	if n, err := f.ReadAt(magic, 0); n < len(magic) && err != nil {
		return None
	}
	if bytes.Equal(magic, []byte("!<arch>\n")) {
		return Archive
	}
	if !bytes.Equal(magic[:4], []byte(elf.ELFMAG)) {
		return None
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return None
	}
	switch {
	case e.Type == elf.ET_EXEC:
		return Program
	case e.Type == elf.ET_DYN && slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }):
		return Program
	case e.Type == elf.ET_DYN:
		return Shared
	}
	return None
}
