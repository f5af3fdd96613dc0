package buildcache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// dbVersion is the version of the database that dbType names.
const dbVersion = "8"

// An IndexResult says what Index did.
type IndexResult struct {
	// Packages is how many packages the index says are in the cache, Specs
	// how many it describes, dependencies included.
	Packages int `json:"packages"`
	Specs    int `json:"specs"`
	// Digest is that of the index.
	Digest digest.Digest `json:"digest"`
	// Unreadable are packages that are not in the index, and why.
	Unreadable []Finding `json:"unreadable,omitempty"`
}

// Index makes the cache's index anew, from what the cache holds alone. Readers
// see the old index or the new one.
func (c *Cache) Index(ctx context.Context) (*IndexResult, error) {
	if _, err := c.writable(); err != nil {
		return nil, err
	}
	g, err := c.catalog(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", c, err)
	}
	result, err := c.writeIndex(ctx, g)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", c, err)
	}
	return result, nil
}

// SaveIndex writes the cache's index into a directory of layout 3 that holds
// nothing else. A Spack that sees it knows what is in the cache, as if it could
// ask, when it concretizes. ErrNotFound says that the cache has no index.
func (c *Cache) SaveIndex(ctx context.Context, dir string) error {
	x, err := c.reader.index(ctx)
	if err != nil {
		return fmt.Errorf("index of %s: %w", c, err)
	}
	g := &catalog{refs: map[string]ref{}, nodes: x.nodes, broken: map[string]error{}}
	for hash := range x.cached {
		g.refs[hash] = ref{hash: hash}
	}
	dst := &Cache{address: dir, writer: newDirectory(localFiles{root: dir})}
	if _, err := dst.writeIndex(ctx, g); err != nil {
		return fmt.Errorf("index of %s: %w", c, err)
	}
	return nil
}

// writeIndex writes what g knows.
func (c *Cache) writeIndex(ctx context.Context, g *catalog) (*IndexResult, error) {
	w, err := c.writable()
	if err != nil {
		return nil, err
	}
	packages := g.packages()
	all := g.closure(packages, func(Dependency) bool { return true })
	slices.SortFunc(all, compareSpecs)
	blob, err := measureIndex(g, all)
	if err != nil {
		return nil, err
	}
	result := &IndexResult{Packages: len(packages), Specs: len(all), Digest: blob.Digest, Unreadable: g.unreadable()}
	return result, w.putIndex(ctx, blob, func() (io.ReadCloser, error) {
		r, pipe := io.Pipe()
		go func() { pipe.CloseWithError(encodeIndex(pipe, g, all)) }()
		return r, nil
	})
}

// unreadable returns the packages that the catalog could not read.
func (g *catalog) unreadable() []Finding {
	var findings []Finding
	for _, hash := range slices.Sorted(maps.Keys(g.broken)) {
		findings = append(findings, Finding{Problem: Unreadable, Package: g.refs[hash].key, Hash: hash, Detail: g.broken[hash].Error()})
	}
	return findings
}

// measureIndex returns digest and size of an index, which is then written a
// second time, so that it is never in memory as a whole.
func measureIndex(g *catalog, all []*Spec) (Blob, error) {
	digester, counter := digest.Canonical.Digester(), &counter{}
	if err := encodeIndex(io.MultiWriter(digester.Hash(), counter), g, all); err != nil {
		return Blob{}, err
	}
	return Blob{Digest: digester.Digest(), Size: counter.n, MediaType: dbType}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// encodeIndex writes Spack's database: what is in the cache and all that it
// depends on. The same packages give the same bytes.
func encodeIndex(w io.Writer, g *catalog, all []*Spec) error {
	uses := map[string]int{}
	for _, s := range all {
		for _, d := range s.Dependencies {
			uses[d.Hash]++
		}
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, `{"database":{"version":%q,"installs":{`, dbVersion)
	for i, s := range all {
		node, err := modern(s)
		if err != nil {
			return err
		}
		_, stored := g.refs[s.Hash]
		rec, err := json.Marshal(indexRecord{node, uses[s.Hash], stored && g.broken[s.Hash] == nil})
		if err != nil {
			return fmt.Errorf("describe %s: %w", s, err)
		}
		if i > 0 {
			fmt.Fprint(b, ",")
		}
		fmt.Fprintf(b, "%q:%s", s.Hash, rec)
	}
	fmt.Fprint(b, "}}}")
	return b.Flush()
}

// modern returns the node in the format that version 8 of the database has.
// Older spec files name the compiler in a field of its own, and Spack refuses
// a whole index that has one; where it may stand is what to_node_dict in
// lib/spack/spack/spec.py writes for such specs.
func modern(s *Spec) (json.RawMessage, error) {
	if bytes.Contains(s.raw, []byte(`"annotations"`)) {
		return s.raw, nil
	}
	var node map[string]any
	if err := json.Unmarshal(s.raw, &node); err != nil {
		return nil, fmt.Errorf("describe %s: %w", s, err)
	}
	annotations := map[string]any{"original_specfile_version": 4}
	if compiler, ok := node["compiler"].(map[string]any); ok {
		annotations["compiler"] = fmt.Sprintf("%v@=%v", compiler["name"], compiler["version"])
	}
	delete(node, "compiler")
	node["annotations"] = annotations
	var dependencies []any
	for _, d := range s.Dependencies {
		virtuals := append([]string{}, s.virtuals[d.Hash]...)
		dependencies = append(dependencies, map[string]any{
			"name": d.Name, "hash": d.Hash,
			"parameters": map[string]any{"deptypes": d.Types, "virtuals": virtuals},
		})
	}
	delete(node, "dependencies")
	if dependencies != nil {
		node["dependencies"] = dependencies
	}
	return json.Marshal(node)
}
