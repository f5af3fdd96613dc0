package builder

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// blobMemory is where the libraries remember what layers are called when they
// are compressed, and which registries have them: an SQLite database.
const blobMemory = blobMemoryPrefix + "-v1.sqlite"

// blobMemoryPrefix begins the names of all that is remembered about blobs.
const blobMemoryPrefix = "blob-info-cache"

// dropDamagedBlobs removes the memory if it is no database any more. The
// libraries go on without it then, and compress everything at each push.
func (b *Builder) dropDamagedBlobs() {
	file := filepath.Join(b.cacheDir, blobMemory)
	if isDatabase(file) {
		return
	}
	if err := os.Remove(file); err != nil {
		return // it stays useless, which harms nobody
	}
	b.notices.add("what is remembered about compressed layers was damaged; it was dropped, and layers are compressed once more")
}

// isDatabase looks at the header that SQLite's documentation of its file format
// describes, and at the size. A file that is empty or not there will be one.
func isDatabase(file string) bool {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err == nil
	}
	var header [100]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return false
	}
	page := int64(binary.BigEndian.Uint16(header[16:]))
	if page == 1 {
		page = 1 << 16
	}
	return string(header[:16]) == "SQLite format 3\x00" && page >= 512 && info.Size()%page == 0
}
