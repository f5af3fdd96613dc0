//go:build integration

package integration

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// An ociImage is an image read back from an OCI directory with layers that are
// compressed with gzip or not at all, by nothing but the Go standard library.
type ociImage struct {
	t      *testing.T
	config struct {
		Config struct {
			User       string
			Env        []string
			WorkingDir string
			Entrypoint []string
			Cmd        []string
			// What Docker adds.
			Healthcheck    *struct{ Test []string }
			OnBuild, Shell []string
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
		History []struct {
			CreatedBy string `json:"created_by"`
		} `json:"history"`
	}
	layers []map[string]entry
}

// An entry is one file of a layer.
type entry struct {
	tar.Header
	// content is that of small files, sum the digest of all.
	content, sum string
}

func readOCI(t *testing.T, dir string) *ociImage {
	t.Helper()
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	blob := func(d string) string { return filepath.Join(dir, "blobs", strings.Replace(d, ":", "/", 1)) }
	decode(t, filepath.Join(dir, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%s has %d manifests, want 1", dir, len(index.Manifests))
	}
	decode(t, blob(index.Manifests[0].Digest), &manifest)
	img := &ociImage{t: t}
	decode(t, blob(manifest.Config.Digest), &img.config)
	for _, l := range manifest.Layers {
		img.layers = append(img.layers, readLayer(t, blob(l.Digest)))
	}
	return img
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readLayer(t *testing.T, file string) map[string]entry {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var files io.Reader = f
	if unpacked, err := gzip.NewReader(bufio.NewReader(f)); err == nil {
		files = unpacked
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	entries := map[string]entry{}
	for r := tar.NewReader(files); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e, sum := entry{Header: *hdr}, sha256.New()
		if hdr.Size < 1<<20 {
			var content []byte
			content, err = io.ReadAll(r)
			e.content = string(content)
			sum.Write(content)
		} else {
			_, err = io.Copy(sum, r)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e.sum = hex.EncodeToString(sum.Sum(nil))
		entries[path.Join("/", hdr.Name)] = e
	}
}

// files are the files of the image: what the layers make of each other.
func (i *ociImage) files() map[string]entry {
	all := map[string]entry{}
	for _, l := range i.layers {
		for name := range l {
			dir, file := path.Split(name)
			if hidden, ok := strings.CutPrefix(file, ".wh."); ok {
				if hidden == ".wh..opq" {
					hidden = ""
				}
				remove(all, path.Join(dir, hidden), hidden != "")
			}
		}
		for name, e := range l {
			if !strings.HasPrefix(path.Base(name), ".wh.") {
				all[name] = e
			}
		}
	}
	return all
}

// remove removes what is below name, and name itself.
func remove(all map[string]entry, name string, itself bool) {
	for other := range all {
		if strings.HasPrefix(other, strings.TrimSuffix(name, "/")+"/") || itself && other == name {
			delete(all, other)
		}
	}
}

// file returns one file of the image.
func (i *ociImage) file(name string) entry {
	i.t.Helper()
	e, ok := i.files()[name]
	if !ok {
		i.t.Fatalf("the image has no %s", name)
	}
	return e
}
