package buildcache

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// An unpacked archive is in a directory of the tree that nobody looks at.
type unpacked struct {
	root   *os.Root
	dir    string // in root
	prefix string // in dir
	info   buildinfo
	sbang  bool // scripts want it
}

// unpack unpacks an archive. Whatever names and links it has, nothing is
// written elsewhere: os.Root sees to it.
func (p *puller) unpack(ctx context.Context, archive Blob) (u *unpacked, err error) {
	body, err := p.cache.reader.open(ctx, archive)
	if err != nil {
		return nil, blobError(archive.Digest, err)
	}
	defer body.Close()
	dir := unfinished + rand.Text()
	u = &unpacked{root: p.root, dir: dir}
	if err := p.root.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.root.RemoveAll(dir))
		}
	}()
	whole := verified(archive, body)
	zr, err := gzip.NewReader(whole)
	if err != nil {
		return nil, damaged(archive.Digest.String(), "%v", err)
	}
	if err := u.extract(tar.NewReader(zr)); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", archive.Digest, err)
	}
	// The digest counts what comes behind the last file, too.
	if _, err := io.Copy(io.Discard, zr); err != nil {
		return nil, damaged(archive.Digest.String(), "%v", err)
	}
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return nil, err
	}
	if u.prefix == "" {
		return nil, damaged(archive.Digest.String(), "it is no package of Spack: it has no %s", buildInfo)
	}
	return u, nil
}

func (u *unpacked) extract(archive *tar.Reader) error {
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		if !filepath.IsLocal(name) {
			return damaged(h.Name, "it leads out of the archive")
		}
		if prefix, ok := strings.CutSuffix(name, "/"+buildInfo); ok && (u.prefix == "" || len(prefix) < len(u.prefix)) {
			u.prefix = prefix
		}
		if err := u.entry(archive, h, filepath.Join(u.dir, name)); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// entry writes one file. Who may do what is what the umask says, but for the
// owner, and nothing is setuid.
func (u *unpacked) entry(archive io.Reader, h *tar.Header, name string) error {
	if h.Typeflag == tar.TypeDir {
		return u.root.MkdirAll(name, 0o777)
	}
	if err := u.root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666|os.FileMode(h.Mode)&0o111)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		target := path.Clean(strings.TrimLeft(h.Linkname, "/"))
		if !filepath.IsLocal(target) {
			return damaged(h.Linkname, "it leads out of the archive")
		}
		return u.root.Link(filepath.Join(u.dir, target), name)
	}
	return nil // Spack writes no others
}

// relocate writes the present places into the files that the archive says
// name the old ones.
func (u *unpacked) relocate(places *placer) error {
	for _, name := range u.info.Links {
		if err := u.inPrefix(name, func(file string) error { return u.moveLink(file, places) }); err != nil {
			return err
		}
	}
	for _, name := range u.info.TextFiles {
		err := u.inPrefix(name, func(file string) error {
			return u.rewrite(file, func(text []byte) ([]byte, error) {
				u.sbang = u.sbang || bytes.HasPrefix(text, []byte("#!/bin/sh "+u.info.SbangPath))
				return places.text(text), nil
			})
		})
		if err != nil {
			return err
		}
	}
	for _, name := range u.info.Binaries {
		err := u.inPrefix(name, func(file string) error {
			return u.rewrite(file, func(data []byte) ([]byte, error) { return data, places.binary(data) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacked) inPrefix(name string, do func(file string) error) error {
	if !filepath.IsLocal(name) {
		return damaged(name, "it leads out of the package")
	}
	if err := do(filepath.Join(u.dir, u.prefix, name)); err != nil {
		return fmt.Errorf("write the new place into %s: %w", name, err)
	}
	return nil
}

func (u *unpacked) moveLink(file string, places *placer) error {
	old, err := u.root.Readlink(file)
	if err != nil {
		return err
	}
	if now := places.link(old); now != old {
		return errors.Join(u.root.Remove(file), u.root.Symlink(now, file))
	}
	return nil
}

// rewrite changes a file in place: it may have other names.
func (u *unpacked) rewrite(file string, change func([]byte) ([]byte, error)) error {
	f, err := u.root.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	after, err := change(bytes.Clone(before))
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	if _, err := f.WriteAt(after, 0); err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(len(after))), f.Close())
}
