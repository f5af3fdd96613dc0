package buildcache

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// A buildinfo says where a package was installed and which of its files name
// that place. It is the last file of an archive, and Spack changes files
// by it when it installs them elsewhere: get_buildinfo_dict and
// relocate_package in binary_distribution.py.
type buildinfo struct {
	SbangPath        string            `json:"sbang_install_path" yaml:"sbang_install_path"`
	BuildPath        string            `json:"buildpath" yaml:"buildpath"`
	RelativePrefix   string            `json:"relative_prefix" yaml:"relative_prefix"`
	HardlinksDeduped bool              `json:"hardlinks_deduped" yaml:"hardlinks_deduped"`
	HashToPrefix     map[string]string `json:"hash_to_prefix" yaml:"hash_to_prefix"`
	Binaries         []string          `json:"relocate_binaries" yaml:"relocate_binaries"`
	Links            []string          `json:"relocate_links" yaml:"relocate_links"`
	TextFiles        []string          `json:"relocate_textfiles" yaml:"relocate_textfiles"`
	// PrefixToHash is what archives of Spack before 0.20 have.
	PrefixToHash map[string]string `json:"prefix_to_hash,omitempty" yaml:"prefix_to_hash"`
}

// padding is what Spack fills a path with to give it a certain length.
var padding = regexp.MustCompile(`(/` + spack.Placeholder + `)+(/_[_a-z]*)?$`)

// describe is the buildinfo of a package before its files are looked at.
func (t *installTree) describe(p *installed) *buildinfo {
	rel, _ := filepath.Rel(t.root, p.prefix) // both are absolute
	info := &buildinfo{
		SbangPath: padding.ReplaceAllString(t.recorded, "") + "/bin/sbang",
		BuildPath: t.recorded, RelativePrefix: rel, HardlinksDeduped: true, HashToPrefix: map[string]string{},
		Binaries: []string{}, Links: []string{}, TextFiles: []string{},
	}
	named := &catalog{nodes: t.nodes}
	specs := named.closure([]*Spec{p.spec}, func(d Dependency) bool { return slices.Contains(d.Types, "link") })
	for _, d := range p.spec.Dependencies {
		if s := t.nodes[d.Hash]; s != nil && slices.Contains(d.Types, "run") {
			specs = append(specs, s)
		}
	}
	for _, s := range specs {
		if prefix := t.prefixes[s.Hash]; prefix != "" && s.External == "" {
			info.HashToPrefix[s.Hash] = prefix
		}
	}
	return info
}

// A packer writes one archive, the way reproducible_tarfile_from_prefix in
// Spack's util/archive.py does: sorted, without times and owners, modes as git
// has them, so that the same prefix gives the same bytes.
type packer struct {
	ctx   context.Context //nolint:containedctx // one archive long
	tar   *tar.Writer
	here  string // the prefix
	name  string // the prefix's name in the archive
	info  *buildinfo
	names *placer
	links map[[2]uint64]string
}

// writeArchive writes the compressed archive of a package.
func (t *installTree) writeArchive(ctx context.Context, w io.Writer, p *installed) error {
	info := t.describe(p)
	zw := gzip.NewWriter(w)
	k := &packer{
		ctx: ctx, tar: tar.NewWriter(zw), here: p.prefix, info: info, links: map[[2]uint64]string{},
		name: strings.TrimPrefix(path.Join(t.recorded, info.RelativePrefix), "/"), names: info.places(),
	}
	for i, c := range k.name {
		if c == '/' {
			if err := k.add(k.name[:i], tar.TypeDir, 0o755); err != nil {
				return err
			}
		}
	}
	if err := k.directory(""); err != nil {
		return err
	}
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: k.name + "/" + buildInfo, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}
	if err := k.tar.WriteHeader(header); err != nil {
		return err
	}
	if _, err := k.tar.Write(data); err != nil {
		return err
	}
	if err := k.tar.Close(); err != nil {
		return err
	}
	return zw.Close()
}

// add writes an entry without content.
func (k *packer) add(name string, kind byte, mode int64) error {
	if kind == tar.TypeDir {
		name += "/"
	}
	return k.tar.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: mode})
}

// directory writes a directory: itself, its files, then its directories.
func (k *packer) directory(rel string) error {
	if k.ctx.Err() != nil {
		return context.Cause(k.ctx)
	}
	if err := k.add(path.Join(k.name, rel), tar.TypeDir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(k.here, rel))
	if err != nil {
		return err
	}
	var below []string
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		switch {
		case e.IsDir():
			below = append(below, name)
		case name == buildInfo: // of the archive that it came from
		case e.Type() == fs.ModeSymlink:
			err = k.link(name)
		case e.Type().IsRegular():
			err = k.file(name)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range below {
		if err := k.directory(name); err != nil {
			return err
		}
	}
	return nil
}

func (k *packer) link(rel string) error {
	target, err := os.Readlink(filepath.Join(k.here, rel))
	if err != nil {
		return err
	}
	if path.IsAbs(target) && k.names.starts(target) {
		k.info.Links = append(k.info.Links, rel)
	}
	return k.tar.WriteHeader(&tar.Header{Name: path.Join(k.name, rel), Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o755})
}

func (k *packer) file(rel string) error {
	f, err := os.Open(filepath.Join(k.here, rel))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: path.Join(k.name, rel), Typeflag: tar.TypeReg, Mode: 0o644, Size: st.Size()}
	if st.Mode()&0o100 != 0 {
		header.Mode = 0o755
	}
	if raw, ok := st.Sys().(*syscall.Stat_t); ok && raw.Nlink > 1 {
		id := [2]uint64{uint64(raw.Dev), raw.Ino} //nolint:unconvert // not of that type on every architecture
		if first, ok := k.links[id]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return k.tar.WriteHeader(header)
		}
		k.links[id] = header.Name
	}
	if err := k.tar.WriteHeader(header); err != nil {
		return err
	}
	if strings.HasPrefix(rel, ".spack/") {
		_, err = io.Copy(k.tar, f)
		return err
	}
	return k.content(rel, f, st.Size())
}

// largeText is how much of a file is held in memory to find names in it. What
// is larger and no program is data.
const largeText = 256 << 20

// content writes a file and notes whether it names a place.
func (k *packer) content(rel string, f *os.File, size int64) error {
	var magic [8]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	head := bytes.NewReader(magic[:n])
	switch {
	case n < len(magic) || size > largeText:
	case bytes.HasPrefix(magic[:], []byte("\x7fELF")):
		k.info.Binaries = append(k.info.Binaries, rel)
	default:
		data, err := io.ReadAll(io.MultiReader(head, f))
		if err != nil {
			return err
		}
		if isText(data) && k.names.in(data) {
			k.info.TextFiles = append(k.info.TextFiles, rel)
		}
		if _, err := k.tar.Write(data); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		return nil
	}
	if _, err := io.Copy(k.tar, io.MultiReader(head, f)); err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	return nil
}

// isText says what Spack takes for a text: UTF-8, or Latin-1 without control
// characters.
func isText(data []byte) bool {
	if utf8.Valid(data) {
		return true
	}
	return !slices.ContainsFunc(data, func(b byte) bool { return b == 0 || b >= 0x7f && b <= 0x9f })
}
