package buildcache

import (
	"context"
	"fmt"
	"time"
)

// Clean removes from a directory files that killed writers have not finished and,
// if it is Confined, what no writer makes: links, pipes, devices. Others may write
// to the cache meanwhile.
func (c *Cache) Clean() error {
	d, ok := c.writer.(*directory)
	if !ok {
		return fmt.Errorf("clean %s: %w", c, ErrReadOnly)
	}
	if err := d.clean(); err != nil {
		return fmt.Errorf("clean %s: %w", c, err)
	}
	return nil
}

// Clear removes from a directory what writers left that were killed, Spack
// included: manifests of packages that break off, what no manifest names, and
// files that are not finished. Unlike Prune, it leaves nothing alone for being
// new: nobody may write to the cache meanwhile. A cache of another kind has
// nothing of that sort, and ErrReadOnly says so.
func (c *Cache) Clear(ctx context.Context) error {
	d, ok := c.writer.(*directory)
	if !ok {
		return fmt.Errorf("clear %s: %w", c, ErrReadOnly)
	}
	err := d.removeCutOff(ctx)
	if err == nil {
		_, _, err = d.sweep(ctx, nil, time.Now().Add(time.Hour), false)
	}
	if err != nil {
		return fmt.Errorf("clear %s: %w", c, err)
	}
	return nil
}
