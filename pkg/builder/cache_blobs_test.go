package builder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/pkg/blobinfocache"
	"go.podman.io/image/v5/types"
)

func TestADamagedMemoryOfBlobsIsDropped(t *testing.T) {
	b := &Builder{cacheDir: t.TempDir()}
	file := filepath.Join(b.cacheDir, blobMemory)
	b.dropDamagedBlobs() // none is fine
	a, c := digest.FromString("a"), digest.FromString("c")
	blobinfocache.DefaultCache(&types.SystemContext{BlobInfoCacheDir: b.cacheDir}).RecordDigestUncompressedPair(a, c)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b.dropDamagedBlobs()
	if len(b.notices.texts) > 0 {
		t.Fatalf("said of a whole one: %v", b.notices.texts)
	}
	if got := blobinfocache.DefaultCache(&types.SystemContext{BlobInfoCacheDir: b.cacheDir}).UncompressedDigest(a); got != c {
		t.Errorf("it remembers %q, want %q", got, c)
	}
	for name, data := range map[string][]byte{"cut short": whole[:len(whole)-100], "only its start": whole[:50], "zeros": make([]byte, len(whole))} {
		b.notices.texts = nil
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b.dropDamagedBlobs()
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) || len(b.notices.texts) != 1 {
			t.Errorf("%s: %v, said %v", name, err, b.notices.texts)
		}
	}
}
