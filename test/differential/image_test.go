//go:build integration

package differential

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A node is a file of an image; the names of one file share it.
type node struct {
	kind     byte // as in a tar header
	mode     int64
	uid, gid int
	link     string
	device   string
	size     int64
	sum      string
	xattrs   map[string]string
}

// An image is what a layout's layers make, and its configuration.
type image struct {
	files  map[string]*node
	config map[string]any
	// broken is what is wrong with the layers themselves.
	broken []string
	// lost are links in whose place a COPY has put a directory.
	lost []string
}

// readImage applies the layers of the one image in an OCI layout.
func readImage(dir string) (*image, error) {
	var index struct{ Manifests []struct{ Digest string } }
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	var config struct {
		Config  map[string]any
		History []history
	}
	if err := readJSON(filepath.Join(dir, "index.json"), &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images", dir, len(index.Manifests))
	}
	if err := readJSON(blob(dir, index.Manifests[0].Digest), &manifest); err != nil {
		return nil, err
	}
	if err := readJSON(blob(dir, manifest.Config.Digest), &config); err != nil {
		return nil, err
	}
	im := &image{files: map[string]*node{"": {kind: tar.TypeDir, mode: 0o755}}, config: config.Config}
	config.History = slices.DeleteFunc(config.History, func(h history) bool { return h.Empty })
	for n, l := range manifest.Layers {
		copies := n < len(config.History) && strings.Contains(config.History[n].By, "COPY")
		if err := im.readLayer(blob(dir, l.Digest), copies); err != nil {
			return nil, fmt.Errorf("layer %d: %w", n, err)
		}
	}
	return im, nil
}

// history is what made a layer.
type history struct {
	By    string `json:"created_by"`
	Empty bool   `json:"empty_layer"`
}

func blob(dir, digest string) string {
	return filepath.Join(dir, "blobs", strings.ReplaceAll(digest, ":", "/"))
}

func readJSON(name string, into any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// An entry is one of a layer.
type entry struct {
	name string
	node *node
	hard string // the name of the same file
}

func (im *image) readLayer(name string, copies bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewReader(f)
	var in io.Reader = buffered
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		if in, err = gzip.NewReader(buffered); err != nil {
			return err
		}
	}
	var entries []entry
	for r := tar.NewReader(in); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			return err
		}
		entries = append(entries, newEntry(hdr, fmt.Sprintf("%x", sum.Sum(nil))))
	}
	for _, e := range entries {
		if before := im.files[e.name]; copies && before != nil && before.kind == tar.TypeSymlink && e.node != nil && e.node.kind == tar.TypeDir {
			im.lost = append(im.lost, e.name)
		}
	}
	im.apply(entries)
	return nil
}

func newEntry(hdr *tar.Header, sum string) entry {
	e := entry{name: clean(hdr.Name)}
	if hdr.Typeflag == tar.TypeLink {
		e.hard = clean(hdr.Linkname)
		return e
	}
	n := &node{kind: hdr.Typeflag, mode: hdr.Mode & 0o7777, uid: hdr.Uid, gid: hdr.Gid, xattrs: map[string]string{}}
	switch hdr.Typeflag {
	case tar.TypeReg:
		n.size, n.sum = hdr.Size, sum
	case tar.TypeSymlink:
		n.link, n.mode = hdr.Linkname, 0o777
	case tar.TypeChar, tar.TypeBlock:
		n.device = fmt.Sprint(hdr.Devmajor, ":", hdr.Devminor)
	}
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			n.xattrs[name] = value
		}
	}
	e.node = n
	return e
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// apply puts a layer on top. Its whiteouts mean the layers below alone.
func (im *image) apply(entries []entry) {
	for _, e := range entries {
		dir, base := path.Split(e.name)
		switch hidden, isWhiteout := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			im.remove(path.Clean(dir), false)
		case isWhiteout:
			if im.files[path.Join(dir, hidden)] == nil {
				im.complain("whiteout of %q, which does not exist", path.Join(dir, hidden))
			}
			im.remove(path.Join(dir, hidden), true)
		}
	}
	added := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(path.Base(e.name), ".wh.") {
			continue
		}
		if added[e.name] {
			im.complain("%q is twice in a layer", e.name)
		}
		added[e.name] = true
		im.add(e)
	}
}

func (im *image) add(e entry) {
	if parent := im.files[parentOf(e.name)]; parent == nil {
		im.complain("%q has no parent", e.name)
	} else if parent.kind != tar.TypeDir {
		im.complain("%q is below what is no directory", e.name)
	}
	n := e.node
	if n == nil {
		if n = im.files[e.hard]; n == nil {
			im.complain("%q is a hard link to %q, which does not exist", e.name, e.hard)
			return
		}
	}
	if before := im.files[e.name]; before != nil && (before.kind != tar.TypeDir || n.kind != tar.TypeDir) {
		im.remove(e.name, true)
	}
	im.files[e.name] = n
}

func parentOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

func (im *image) remove(name string, itself bool) {
	maps.DeleteFunc(im.files, func(other string, _ *node) bool {
		return itself && other == name || strings.HasPrefix(other, name+"/")
	})
}

func (im *image) complain(format string, args ...any) {
	im.broken = append(im.broken, fmt.Sprintf(format, args...))
}

// groups lists, for each file with several names, these names.
func (im *image) groups() map[string]string {
	names := map[*node][]string{}
	for name, n := range im.files {
		names[n] = append(names[n], name)
	}
	all := map[string]string{}
	for _, group := range names {
		if len(group) < 2 {
			continue
		}
		slices.Sort(group)
		for _, name := range group {
			all[name] = fmt.Sprintf("%q", group)
		}
	}
	return all
}
