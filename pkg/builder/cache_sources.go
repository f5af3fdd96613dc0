package builder

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/cache"
)

// soundSources drops source archives that are not what their names say: Spack
// would notice it, too, but has nothing to say of it, or fails. Archives that
// nobody has touched since they were looked at are not read again. Trouble here
// costs nothing: Spack checks what it uses.
func (b *Builder) soundSources() {
	dir := b.spackCache("sources")
	entries, err := allFiles(dir, CacheSource)
	if err != nil {
		return
	}
	known := cache.OpenContents(filepath.Join(b.cacheDir, "contents"), dir)
	for _, e := range entries {
		want, ok := sourceDigest(e.path)
		if !ok {
			continue
		}
		if got, err := e.knownSHA256(known); err != nil || got == want {
			continue
		}
		if err := e.remove(); err == nil {
			b.notices.add(fmt.Sprintf("source archive %s is damaged; it was dropped, and is fetched again", filepath.Base(e.path)))
		}
	}
	_ = known.Save() // then they are read again
}

// knownSHA256 is the digest of the entry's file, from memory if nobody has
// touched it.
func (e *CacheEntry) knownSHA256(known *cache.Contents) (string, error) {
	f, err := e.open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum, ok := known.Get(before)
	if !ok {
		if sum, err = readSHA256(f); err != nil {
			return "", err
		}
		known.Put(f, before, sum)
	}
	return fmt.Sprintf("%x", sum), nil
}

func readSHA256(r io.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
