package buildcache

import (
	"context"
	"errors"
	"fmt"
	"path"
)

// v3Keys holds the public keys of a directory, and the index of them.
const v3Keys = "v3/manifests/key"

// keys brings the public keys of a directory to another one, so that the
// signatures that come along can be checked there. What is there is left
// alone, the index of keys included.
func (c *copier) keys(ctx context.Context) error {
	src, fromDirectory := c.src.reader.(*directory)
	dst, toDirectory := c.w.(*directory)
	if !fromDirectory || !toDirectory || len(c.opt.Filters) > 0 {
		return nil
	}
	names, err := src.files.walk(ctx, v3Keys, ".manifest.json")
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, name := range names {
		if _, err := dst.files.stat(ctx, name); err == nil {
			continue
		}
		if err := c.key(ctx, src, name); err != nil {
			if !isDamage(err) {
				return fmt.Errorf("key %s: %w", name, err)
			}
			c.fail("", path.Base(name), err)
		}
	}
	return nil
}

// key copies one manifest with what it names.
func (c *copier) key(ctx context.Context, src *directory, name string) error {
	body, info, err := src.files.open(ctx, name)
	if err != nil {
		return err
	}
	raw, err := limited(body, maxManifest)
	if err != nil {
		return err
	}
	blobs, _, err := decodeV3(raw)
	if err != nil {
		return damaged(name, "%v", err)
	}
	for _, b := range blobs {
		if err := c.send(ctx, b, c.source(ctx, b)); err != nil {
			return err
		}
	}
	return c.w.commit(ctx, ref{key: name}, &manifest{raw: raw, date: info.modified})
}
