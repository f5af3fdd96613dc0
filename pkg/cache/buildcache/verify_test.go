package buildcache

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// problems returns problem and package of the findings.
func problems(r *Report) []string {
	var lines []string
	for _, f := range r.Findings {
		if f.Problem == Unused && slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Problem == Unreadable }) {
			continue // what a manifest names that can't be read
		}
		lines = append(lines, strings.TrimSpace(string(f.Problem)+" "+f.Package))
	}
	slices.Sort(lines)
	return lines
}

func TestVerifyFindsDamage(t *testing.T) {
	all := world()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, root string)
		deep   bool
		want   []string
		sound  bool
	}{
		{"nothing", func(*testing.T, string) {}, true, nil, true},
		{"blob gone", func(t *testing.T, root string) {
			must(t, os.Remove(blobPath(t, root, all["zlib"])))
		}, false, []string{"missing-blob " + all["zlib"].ref()}, false},
		{"blob cut", func(t *testing.T, root string) {
			must(t, os.Truncate(blobPath(t, root, all["zlib"]), 100))
		}, false, []string{"wrong-size " + all["zlib"].ref()}, false},
		{"blob changed, not looked into", func(t *testing.T, root string) {
			flip(t, blobPath(t, root, all["zlib"]))
		}, false, nil, true},
		{"blob changed", func(t *testing.T, root string) {
			flip(t, blobPath(t, root, all["zlib"]))
		}, true, []string{"wrong-digest " + all["zlib"].ref()}, false},
		{"package gone", func(t *testing.T, root string) {
			must(t, os.Remove(manifestPath(root, all["hdf5"])))
		}, false, []string{
			"missing-dependency " + all["app"].ref(), "not-stored " + all["hdf5"].ref(), "unused", "unused",
		}, false},
		{"package not indexed", func(t *testing.T, root string) {
			writeV3Index(t, root, "app", "hdf5", "zlib", "py-tool")
		}, false, []string{"not-indexed " + all["ninja"].ref(), "unused"}, true},
		{"no index", func(t *testing.T, root string) {
			must(t, os.RemoveAll(filepath.Join(root, "v3/manifests/index")))
		}, false, []string{"no-index", "unused"}, true},
		{"index's blob gone", func(t *testing.T, root string) {
			l := &layout3{localFiles{root: root}}
			blob, err := l.indexBlob(t.Context())
			must(t, err)
			must(t, os.Remove(filepath.Join(root, v3Path(blob.Digest))))
		}, false, []string{"bad-index"}, false},
		{"index changed", func(t *testing.T, root string) {
			l := &layout3{localFiles{root: root}}
			blob, err := l.indexBlob(t.Context())
			must(t, err)
			name := filepath.Join(root, v3Path(blob.Digest))
			data, err := os.ReadFile(name)
			must(t, err)
			writeFile(t, name, bytes.ReplaceAll(data, []byte("1.14.3"), []byte("1.14.4")))
		}, false, []string{"bad-index"}, false},
		{"manifest is nonsense", func(t *testing.T, root string) {
			writeFile(t, manifestPath(root, all["ninja"]), []byte("<html>"))
		}, false, []string{"unreadable v3/manifests/spec/ninja/ninja-1.12-" + all["ninja"].hash() + ".spec.manifest.json"}, false},
		{"manifest of another package", func(t *testing.T, root string) {
			data, err := os.ReadFile(manifestPath(root, all["app"]))
			must(t, err)
			writeFile(t, manifestPath(root, all["ninja"]), data)
		}, false, []string{"unreadable v3/manifests/spec/ninja/ninja-1.12-" + all["ninja"].hash() + ".spec.manifest.json"}, false},
		{"a path in a manifest", func(t *testing.T, root string) {
			data, err := os.ReadFile(manifestPath(root, all["ninja"]))
			must(t, err)
			bad := "../../../../../../etc/passwd" + strings.Repeat("0", 36)
			writeFile(t, manifestPath(root, all["ninja"]), bytes.ReplaceAll(data, []byte(sha(archive(t, all["ninja"]))), []byte(bad)))
		}, false, []string{"unreadable v3/manifests/spec/ninja/ninja-1.12-" + all["ninja"].hash() + ".spec.manifest.json"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newV3(t, stored()...)
			test.damage(t, root)
			report, err := open(t, root).Verify(t.Context(), VerifyOptions{Deep: test.deep})
			must(t, err)
			for _, f := range report.Findings {
				t.Log(f)
			}
			if report.Sound() != test.sound {
				t.Errorf("Sound() is %v", report.Sound())
			}
			got := problems(report)
			if !slices.Equal(got, test.want) {
				t.Errorf("findings are %q, want %q", got, test.want)
			}
		})
	}
}

// flip changes one byte.
func flip(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	data[len(data)/2] ^= 1
	writeFile(t, name, data)
}

// In a registry, packages share layers; what is wrong with one is said of the
// package that it is the archive of.
func TestInfoSaysThatTheArchiveIsGone(t *testing.T) {
	root := newV3(t, "zlib")
	c, zlib := open(t, root), world()["zlib"]
	info, err := c.Info(t.Context(), zlib.hash())
	must(t, err)
	must(t, os.Remove(filepath.Join(root, v3Path(info.Archive.Digest))))
	if info, err = c.Info(t.Context(), zlib.hash()); err != nil || info.Problem != "its archive is not there" {
		t.Errorf("Info returns %+v, %v", info, err)
	}
}

func TestVerifyRegistry(t *testing.T) {
	_, address := repo(t, registry.Options{}, "cache")
	c := open(t, address)
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	r, ok := c.reader.(*repository)
	if !ok {
		t.Fatal("the cache is no repository")
	}
	zlib, err := c.Info(t.Context(), world()["zlib"].hash())
	must(t, err)
	must(t, r.remote.Blobs().Delete(t.Context(), descriptor(zlib.Archive)))
	must(t, r.remove(t.Context(), ref{key: tagOf(&Spec{Name: "ninja", Version: "1.12", Hash: world()["ninja"].hash()})}))
	report, err := c.Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	want := []string{"missing-blob " + world()["zlib"].ref(), "not-stored " + world()["ninja"].ref()}
	if got := problems(report); !slices.Equal(got, want) {
		t.Errorf("findings are %q, want %q", got, want)
	}
}

func TestVerifyLayout2(t *testing.T) {
	root := newV2(t, stored()...)
	report, err := open(t, root).Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if len(report.Findings) != 0 || report.Packages != len(stored()) {
		t.Errorf("Verify returns %+v", report)
	}
	archives, err := filepath.Glob(filepath.Join(root, "build_cache/*/*/zlib-*/*.spack"))
	must(t, err)
	flip(t, archives[0])
	report, err = open(t, root).Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if got := problems(report); !slices.Equal(got, []string{"wrong-digest " + world()["zlib"].ref()}) {
		t.Errorf("findings are %q", got)
	}
}
