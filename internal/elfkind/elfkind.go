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

// Appended reports whether data follows what an ELF file describes of itself, as in
// programs that bring an archive along. Tools that write the file anew, such as
// strip, lose it.
func Appended(f io.ReaderAt, size int64) bool {
	e, err := elf.NewFile(f)
	if err != nil {
		return false
	}
	end := sectionHeadersEnd(f, e)
	for _, s := range e.Sections {
		if s.Type != elf.SHT_NOBITS {
			end = max(end, int64(s.Offset+s.FileSize))
		}
	}
	for _, p := range e.Progs {
		end = max(end, int64(p.Off+p.Filesz))
	}
	return size > end
}

// sectionHeadersEnd is where the table of the sections ends.
func sectionHeadersEnd(f io.ReaderAt, e *elf.File) int64 {
	header := make([]byte, 64)
	if _, err := f.ReadAt(header, 0); err != nil {
		return 0
	}
	order := e.ByteOrder
	if e.Class == elf.ELFCLASS32 {
		return int64(order.Uint32(header[32:])) + int64(order.Uint16(header[46:]))*int64(order.Uint16(header[48:]))
	}
	return int64(order.Uint64(header[40:])) + int64(order.Uint16(header[58:]))*int64(order.Uint16(header[60:]))
}
