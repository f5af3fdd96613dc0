package spack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxLock is the largest spack.lock: thousands of packages.
const maxLock = 10_000_000

// Versions of the lock file that can be read: those of Spack 0.18 and later.
const (
	firstLockVersion = 4
	lastLockVersion  = 7
)

// defaultGroup is what Spack calls the group of specs that are in none.
const defaultGroup = "default"

// A Lock is an environment that has been concretized: what exactly will be
// installed.
type Lock struct {
	// Version is that of the format.
	Version int
	// SpackVersion and SpackCommit say who made it; older formats don't.
	SpackVersion, SpackCommit string
	// Roots are what the environment asks for, in its order, and what other
	// environments that it includes ask for.
	Roots []Root
	// Specs are the roots and all that they depend on.
	Specs Graph
}

// A Root is a spec that was asked for.
type Root struct {
	// Spec is as it was asked for, Hash what it became.
	Spec, Hash string
	// Group is empty for the default group.
	Group string
	// Environment is the directory of the included environment that asks for
	// it, or "".
	Environment string
}

type lockJSON struct {
	Meta struct {
		FileType string `json:"file-type"`
		Version  int    `json:"lockfile-version"`
	} `json:"_meta"`
	Spack struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
	} `json:"spack"`
	lockedSpecs
}

type lockedSpecs struct {
	Roots []struct {
		Hash  string `json:"hash"`
		Spec  string `json:"spec"`
		Group string `json:"group"`
	} `json:"roots"`
	Specs    map[string]*specJSON   `json:"concrete_specs"`
	Included map[string]lockedSpecs `json:"include_concrete"`
}

// ParseLock reads a spack.lock. Name stands for the file in messages. A lock
// that refers to specs it does not have is an error.
func ParseLock(name string, data []byte) (*Lock, error) {
	if len(data) > maxLock {
		return nil, &Error{File: name, Message: fmt.Sprintf("is larger than %d bytes", maxLock)}
	}
	var j lockJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, jsonError(name, data, err)
	}
	if err := j.checkFormat(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l := &Lock{Version: j.Meta.Version, SpackVersion: j.Spack.Version, SpackCommit: j.Spack.Commit, Specs: Graph{}}
	if err := l.add("", j.lockedSpecs); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

func (j *lockJSON) checkFormat() error {
	const again = "make it anew with 'spack concretize --force'"
	switch v := j.Meta.Version; {
	case j.Meta.FileType != "spack-lockfile":
		return fmt.Errorf("is not a lock file of Spack (its _meta:file-type is %q)", shorten(j.Meta.FileType))
	case v < firstLockVersion:
		return fmt.Errorf("has version %d of the format, of a Spack before 0.18; %s", v, again)
	case v > lastLockVersion:
		return fmt.Errorf("has version %d of the format; the newest that is known is %d; use an older Spack, and %s", v, lastLockVersion, again)
	}
	return nil
}

// add takes the specs of one environment and of those that it includes.
func (l *Lock) add(environment string, j lockedSpecs) error {
	for _, r := range j.Roots {
		root := Root{Spec: r.Spec, Hash: r.Hash, Group: r.Group, Environment: environment}
		if root.Group == defaultGroup {
			root.Group = ""
		}
		l.Roots = append(l.Roots, root)
	}
	for _, hash := range slices.Sorted(maps.Keys(j.Specs)) {
		if j.Specs[hash] == nil {
			return fmt.Errorf("the spec %s is null", shorten(hash))
		}
		s, err := j.Specs[hash].spec(hash)
		if err != nil {
			return err
		}
		l.Specs[s.Hash] = s
	}
	for _, path := range slices.Sorted(maps.Keys(j.Included)) {
		if err := l.add(path, j.Included[path]); err != nil {
			return fmt.Errorf("included environment %s: %w", path, err)
		}
	}
	return nil
}

// check makes sure that a closure can be made of all specs, whatever the
// roots.
func (l *Lock) check() error {
	for _, r := range l.Roots {
		if l.Specs[r.Hash] == nil {
			return fmt.Errorf("the root %s is the spec %s, which is not there", shorten(r.Spec), shorten(r.Hash))
		}
	}
	for _, s := range l.Specs {
		if s.BuildSpec != "" && l.Specs[s.BuildSpec] == nil {
			return fmt.Errorf("%s was built as %s, which is not there", s, shorten(s.BuildSpec))
		}
	}
	_, err := l.Specs.Closure(slices.Sorted(maps.Keys(l.Specs)))
	return err
}

// Developed returns the hashes of the specs that are built from a directory of
// sources (develop:), and of all that depend on one. Their hashes do not identify
// what they were built from.
func (l *Lock) Developed() map[string]bool {
	developed := map[string]bool{}
	needers := map[string][]string{}
	var mark func(hash string)
	mark = func(hash string) {
		if developed[hash] {
			return
		}
		developed[hash] = true
		for _, needer := range needers[hash] {
			mark(needer)
		}
	}
	for hash, s := range l.Specs {
		for _, d := range s.Dependencies {
			needers[d.Hash] = append(needers[d.Hash], hash)
		}
	}
	for hash, s := range l.Specs {
		if s.DevPath() != "" {
			mark(hash)
		}
	}
	return developed
}

// Closure returns the roots and what they need by dependencies of the given
// types, in the order of Graph.Closure. Link|Run is what an image must have
// to run them; no types are all. It cannot fail for what ParseLock returned.
func (l *Lock) Closure(types ...DepType) ([]*Spec, error) {
	hashes := make([]string, len(l.Roots))
	for i, r := range l.Roots {
		hashes[i] = r.Hash
	}
	return l.Specs.Closure(hashes, types...)
}
