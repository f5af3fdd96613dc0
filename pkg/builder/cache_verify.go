package builder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// VerifyCache reads all that is kept for later builds and has a digest: layers
// of steps, packages, source archives, downloads. What is damaged is dropped,
// so that it is made again, and told. It returns how much was looked at, and
// how much was damaged.
func (b *Builder) VerifyCache(ctx context.Context, tell func(string)) (looked, damaged int, err error) {
	defer func() { err = b.hostCause("verify the cache", err) }()
	sweep, err := b.users.Sweep(ctx)
	if err != nil {
		return 0, 0, err
	}
	entries, err := b.inventory(ctx, sweep)
	sweep.End() // reading takes long, and harms nobody
	since := &cache.Sweep{Others: 1, Since: time.Now()}
	if err != nil {
		return 0, 0, err
	}
	var packages []string
	for _, e := range entries {
		if e.Kind == CachePackage {
			packages = append(packages, e.key)
			continue
		}
		if err := ctx.Err(); err != nil {
			return looked, damaged, context.Cause(ctx)
		}
		known, wrong := b.verifyEntry(e)
		if known {
			looked++
		}
		if wrong == nil {
			continue
		}
		damaged++
		tell(fmt.Sprintf("%s %.12s (%s): %v; %s", e.Kind, e.ID, e.Text, wrong, b.drop(e, since)))
	}
	looked += len(packages)
	dropped, err := b.spackStore().RemoveDamaged(ctx, packages)
	b.notices.tell(func(e Event) { tell(e.Text) })
	return looked, damaged + len(dropped), err
}

var sha256Name = regexp.MustCompile("^[0-9a-f]{64}$")

// verifyEntry compares an entry with its digest; known says that it has one.
func (b *Builder) verifyEntry(e *CacheEntry) (known bool, wrong error) {
	switch e.Kind {
	case CacheStep:
		if e.Useless != "" {
			return true, errors.New(e.Useless)
		}
		for _, l := range e.layers {
			if err := b.verifyLayer(l.id); err != nil {
				b.markDamaged(l.id)
				return true, fmt.Errorf("layer %.12s: %w", l.id, err)
			}
		}
		return true, nil
	case CacheDownload:
		return true, e.sameDigest(e.ID)
	case CacheSource:
		if want, ok := sourceDigest(e.path); ok {
			return true, e.sameDigest(want)
		}
	}
	return false, nil
}

// sourceDigest is the SHA-256 after which Spack has named a source archive.
func sourceDigest(file string) (sum string, ok bool) {
	sum, _, _ = strings.Cut(filepath.Base(file), ".")
	return sum, sha256Name.MatchString(sum)
}

func (e *CacheEntry) sameDigest(want string) error {
	f, err := e.open()
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := readSHA256(f)
	if err == nil && hex.EncodeToString(sum[:]) != want {
		err = errors.New("its content has another digest")
	}
	return err
}

// verifyLayer reads a layer as an image would be made of it.
func (b *Builder) verifyLayer(id string) (err error) {
	l, err := b.store.Layer(id)
	if err != nil {
		return err
	}
	diff, err := b.readLayer(id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	got, err := digest.FromReader(diff)
	if err == nil && got != l.UncompressedDigest {
		err = errors.New("its files have another digest")
	}
	return err
}

// markDamaged lets no later step take a damaged layer, which may stay because
// something keeps it.
func (b *Builder) markDamaged(id string) {
	// Where that fails the step says that it makes the layer, and finds it again.
	_ = b.store.SetLayerBigData(id, damagedKey, strings.NewReader("1"))
}

// drop makes sure that nobody uses a damaged entry again, and says what
// happens now.
func (b *Builder) drop(e *CacheEntry, since *cache.Sweep) string {
	if e.Kind != CacheStep {
		if err := e.remove(); err != nil {
			return err.Error()
		}
		return "it was dropped, and is fetched again"
	}
	if err := b.steps.Delete(e.key); err != nil {
		return err.Error()
	}
	text := "it was dropped, and the step runs again"
	e.removed = true
	err := lockfile.ErrHeld
	if len(e.KeptBy) == 0 {
		err = b.removeLayers(e, since)
	}
	switch {
	case errors.Is(err, lockfile.ErrHeld) && len(e.KeptBy) > 0:
		text += ", but its layers are still part of " + strings.Join(e.KeptBy, ", ")
	case err != nil && !errors.Is(err, lockfile.ErrHeld):
		text += fmt.Sprintf(" (%v)", err)
	}
	return text
}
