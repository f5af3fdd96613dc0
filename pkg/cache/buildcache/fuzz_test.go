package buildcache

import (
	"bytes"
	"strings"
	"testing"
)

// What a cache holds is not trusted: nothing of it may end the program or lead
// out of the cache.

func FuzzDecodeDocument(f *testing.F) {
	f.Add([]byte(`{"spec": {"_meta": {"version": 5}, "nodes": [{"name": "zlib", "version": "1.3", "hash": "` + strings.Repeat("a", 32) + `", "arch": {"target": {"name": "zen4"}}, "dependencies": [{"name": "x", "hash": "y", "parameters": {"deptypes": ["link"]}}]}]}}`))
	f.Add([]byte(`{"spec": {"nodes": [{"name": "zlib", "version": "1.3", "hash": "` + strings.Repeat("a", 32) + `", "dependencies": {"x": {"hash": "y", "type": ["link"]}}}]}}`))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}\n-----BEGIN PGP SIGNATURE-----"))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := decodeDocument(data)
		if err != nil {
			return
		}
		g := &catalog{nodes: map[string]*Spec{}, refs: map[string]ref{}}
		g.learn(doc)
		for _, s := range g.closure(doc.nodes, func(Dependency) bool { return true }) {
			for _, name := range []string{v3Key(s), tagOf(s), v2Key(s, ".spec.json")} {
				if strings.Contains(name, "..") && !strings.Contains(s.Name+s.Version+s.Arch()+s.Compiler, "..") ||
					strings.Contains(name, "../") || strings.HasPrefix(name, "/") || len(tagOf(s)) > maxTag {
					t.Errorf("%q is called %q", s.Name, name)
				}
			}
			if _, err := modern(s); err != nil {
				t.Errorf("%s can't be written: %v", s, err)
			}
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(`{"version":3,"data":[{"contentLength":1,"mediaType":"x","compression":"gzip","checksumAlgorithm":"sha256","checksum":"` + strings.Repeat("0", 64) + `"}]}`))
	f.Add([]byte(`{"version":3,"data":[{"contentLength":-1,"checksumAlgorithm":"..","checksum":"../../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		blobs, _, err := decodeV3(data)
		if err != nil {
			return
		}
		for _, b := range blobs {
			if path := v3Path(b.Digest); strings.Contains(path, "..") || !strings.HasPrefix(path, "blobs/sha") {
				t.Errorf("a blob is at %q", path)
			}
		}
	})
}

func FuzzReadIndex(f *testing.F) {
	f.Add([]byte(`{"database":{"version":"8","installs":{"` + strings.Repeat("a", 32) + `":{"spec":{"name":"zlib","version":"1"},"ref_count":1,"in_buildcache":true}}}}`))
	f.Add([]byte(`{"database":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := readIndex(bytes.NewReader(data))
		if err != nil {
			return
		}
		for hash := range x.cached {
			if x.nodes[hash] == nil {
				t.Errorf("%q is in the cache and not known", hash)
			}
		}
	})
}

func FuzzParseFilter(f *testing.F) {
	f.Add("hdf5@=1.14.3/abc%gcc@12 arch=linux-*-zen4 os=x")
	f.Fuzz(func(_ *testing.T, text string) {
		if filter, err := ParseFilter(text); err == nil {
			filter.Match(&Spec{Name: "hdf5", Version: "1.14.3"})
		}
	})
}
