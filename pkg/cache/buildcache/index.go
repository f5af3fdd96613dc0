package buildcache

import (
	"encoding/json"
	"fmt"
	"io"
)

// An index is what Spack concretizes with: the packages of the cache and all
// that they depend on.
type index struct {
	blob  Blob // where it was read from, if the cache says so
	nodes map[string]*Spec
	// cached are the packages that the index says are in the cache.
	cached map[string]bool
}

// indexRecord is one record of Spack's database. lib/spack/spack/database.py,
// BuildCacheDatabase in binary_distribution.py.
type indexRecord struct {
	Spec         json.RawMessage `json:"spec"`
	RefCount     int             `json:"ref_count"`
	InBuildcache bool            `json:"in_buildcache"`
}

// readIndex decodes record by record, since an index can be large.
func readIndex(r io.Reader) (*index, error) {
	x := &index{nodes: map[string]*Spec{}, cached: map[string]bool{}}
	dec := json.NewDecoder(io.LimitReader(r, maxIndex))
	err := inObject(dec, func(key string) error {
		if key != "database" {
			return skip(dec)
		}
		return inObject(dec, func(key string) error {
			if key != "installs" {
				return skip(dec)
			}
			return inObject(dec, func(hash string) error { return x.readRecord(dec, hash) })
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	// Whoever verifies what is read has to see its end.
	if _, err := io.Copy(io.Discard, io.MultiReader(dec.Buffered(), r)); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	for _, s := range x.nodes {
		s.findCompiler(x.nodes)
	}
	return x, nil
}

func (x *index) readRecord(dec *json.Decoder, hash string) error {
	var rec indexRecord
	if err := dec.Decode(&rec); err != nil {
		return err
	}
	s, err := decodeNode(withHash(rec.Spec, hash))
	if err != nil {
		return err
	}
	if s.Hash != hash {
		return fmt.Errorf("the record of %s is about %s", hash, s)
	}
	x.nodes[hash] = s
	if rec.InBuildcache {
		x.cached[hash] = true
	}
	return nil
}

// withHash adds the hash to a node of an old index, which has it as the key
// alone.
func withHash(raw json.RawMessage, hash string) json.RawMessage {
	var node map[string]json.RawMessage
	if json.Unmarshal(raw, &node) != nil || node["hash"] != nil {
		return raw
	}
	text, err := json.Marshal(hash)
	if err != nil {
		return raw
	}
	node["hash"] = text
	again, err := json.Marshal(node)
	if err != nil {
		return raw
	}
	return again
}

// inObject calls member for each key of the object that comes next.
func inObject(dec *json.Decoder, member func(key string) error) error {
	open, err := dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return fmt.Errorf("%v where an object should be", open)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string) // keys are strings
		if err := member(name); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func skip(dec *json.Decoder) error {
	var ignored json.RawMessage
	return dec.Decode(&ignored)
}
