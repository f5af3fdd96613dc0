package buildcache

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/test/registry"
)

// Archives can be larger than memory, so that none may be in it as a whole.
func TestArchivesAreStreamed(t *testing.T) {
	const size, most = 48 << 20, 16 << 20
	root := newV3(t, "zlib")
	name := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(name)
	must(t, err)
	hash := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8([32]byte{}), size)
	must(t, err)
	must(t, f.Close())
	blob := Blob{Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(hash.Sum(nil))), Size: size}
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, v3Path(blob.Digest))), 0o755))
	must(t, os.Rename(name, filepath.Join(root, v3Path(blob.Digest))))
	_, address := repo(t, registry.Options{}, "a")
	web := open(t, webServer(t, root))
	src, middle, dst := open(t, root), open(t, address), open(t, t.TempDir())
	for _, way := range [][2]*Cache{{src, middle}, {middle, dst}, {web, open(t, t.TempDir())}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		must(t, way[1].writer.put(t.Context(), blob, func() (io.ReadCloser, error) { return way[0].reader.open(t.Context(), blob) }))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s to %s: %d bytes were allocated for a blob of %d", way[0], way[1], used, size)
		}
	}
}
