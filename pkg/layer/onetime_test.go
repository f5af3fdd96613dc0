package layer_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/layer"
)

// byteCode is the header of Python byte code that names the time of its source.
func byteCode(mtime uint32) []byte {
	data := []byte{0xa7, 0x0d, '\r', '\n', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}
	binary.LittleEndian.PutUint32(data[8:], mtime)
	return data
}

func TestOneTimeIsForFilesAndTheirByteCode(t *testing.T) {
	epoch := time.Unix(1_700_000_000, 0)
	for _, mtime := range []int64{0, 1_000_000_000, 1_700_000_000, 1_800_000_000} {
		tree := &layer.Tree{}
		code := byteCode(uint32(mtime))
		for _, e := range []layer.Entry{
			{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755, ModTime: time.Unix(mtime, 0)}},
			{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/m.py", ModTime: time.Unix(mtime, 0)}},
			{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/m.pyc", Size: int64(len(code)), ModTime: time.Unix(mtime, 0)}, Open: layer.Bytes(code)},
		} {
			if err := tree.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if _, err := tree.Encode(&out, layer.Options{Epoch: epoch, OneTime: true}); err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(&out)
		for {
			hdr, err := r.Next()
			if err != nil {
				break
			}
			if !hdr.ModTime.Equal(epoch) {
				t.Errorf("%s of %d has the time %v, want %v", hdr.Name, mtime, hdr.ModTime, epoch)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if hdr.Name == "d/m.pyc" && !bytes.Equal(data, byteCode(uint32(epoch.Unix()))) {
				t.Errorf("byte code of a source of %d names another time than the source has in the layer", mtime)
			}
		}
	}
}
