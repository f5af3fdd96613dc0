package layer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// pycHeader is the length of the header of Python byte code since 3.7
// (PEP 552): magic, flags, time and size of the source, four bytes each.
const pycHeader = 16

func (e *encoder) isByteCode(hdr *tar.Header) bool {
	if hdr.Typeflag != tar.TypeReg || hdr.Size < pycHeader || !strings.HasSuffix(hdr.Name, ".pyc") {
		return false
	}
	return e.opt.Below == nil || !e.opt.Below(pycSource(hdr.Name))
}

// pycSource names the source of byte code: d/__pycache__/m.cpython-312.pyc is
// made from d/m.py.
func pycSource(name string) string {
	dir, base := path.Split(name)
	module, _, _ := strings.Cut(base, ".")
	if parent, ok := strings.CutSuffix(dir, "__pycache__/"); ok {
		dir = parent
	}
	return dir + module + ".py"
}

// clampByteCode lets byte code name the time that its source has in the layer.
// Otherwise Python would take the byte code for outdated, and compile the
// source again at every start. Changed reports whether that was needed.
func clampByteCode(content io.Reader, opt Options) (_ io.Reader, changed bool, err error) {
	var head [pycHeader]byte
	if _, err := io.ReadFull(content, head[:]); err != nil {
		return nil, false, fmt.Errorf("read the header of Python byte code: %w", err)
	}
	limit := uint32(min(max(0, opt.Epoch.Unix()), math.MaxUint32))
	flags, mtime := head[4:8], head[8:12]
	timestamped := head[2] == '\r' && head[3] == '\n' && binary.LittleEndian.Uint32(flags) == 0
	if said := binary.LittleEndian.Uint32(mtime); timestamped && (said > limit || opt.OneTime && said != limit) {
		binary.LittleEndian.PutUint32(mtime, limit)
		changed = true
	}
	return io.MultiReader(bytes.NewReader(head[:]), content), changed, nil
}
