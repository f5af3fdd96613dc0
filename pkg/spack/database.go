package spack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// maxDatabase is the largest database or index. That of a public binary cache
// has hundreds of thousands of packages.
const maxDatabase = 1 << 30

// Versions of the database that can be read: those of Spack 0.18 and later.
const (
	firstDatabaseVersion = 6
	lastDatabaseVersion  = 8
)

// A Database is what an install tree has: ROOT/.spack-db/index.json.
type Database struct {
	// Version is that of the format.
	Version int
	// Installs are the packages, by hash.
	Installs map[string]*Install
}

// An Install is a package in an install tree.
type Install struct {
	Spec *Spec
	// Prefix is the directory; "" for an external package that has none.
	Prefix string
	// Installed is false for a package that is gone and that others depend on.
	Installed bool
	// Explicit is true for what was asked for, not only needed.
	Explicit bool
	// RefCount is how many packages depend on it.
	RefCount int
	Time     time.Time
	// DeprecatedFor is the hash of the package that replaces it, or "".
	DeprecatedFor string
	// Origin is where it comes from, such as external-db, or "".
	Origin string
}

type recordJSON struct {
	Spec          *specJSON `json:"spec"`
	Path          string    `json:"path"`
	Installed     bool      `json:"installed"`
	Explicit      bool      `json:"explicit"`
	RefCount      int       `json:"ref_count"`
	Time          float64   `json:"installation_time"`
	DeprecatedFor string    `json:"deprecated_for"`
	Origin        string    `json:"origin"`
	InBuildcache  *bool     `json:"in_buildcache"`
}

// ReadDatabase reads a database. Packages may depend on some that are not
// there: see Graph.Closure.
func ReadDatabase(r io.Reader) (*Database, error) {
	db := &Database{Installs: map[string]*Install{}}
	version, err := readRecords(r, func(hash string, j *recordJSON) error {
		s, err := j.spec(hash)
		if err != nil {
			return err
		}
		i := &Install{
			Spec: s, Prefix: j.Path, Installed: j.Installed, Explicit: j.Explicit, RefCount: j.RefCount,
			Time: unixTime(j.Time), DeprecatedFor: j.DeprecatedFor, Origin: j.Origin,
		}
		if i.Prefix == "None" { // written by versions before 0.20
			i.Prefix = ""
		}
		db.Installs[s.Hash] = i
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("install database: %w", err)
	}
	db.Version = version
	return db, nil
}

// Graph has the specs of all packages.
func (db *Database) Graph() Graph {
	g := make(Graph, len(db.Installs))
	for hash, i := range db.Installs {
		g[hash] = i.Spec
	}
	return g
}

// Sorted returns the packages by name, version and hash.
func (db *Database) Sorted() []*Install {
	return slices.SortedFunc(maps.Values(db.Installs), func(a, b *Install) int { return compareSpecs(a.Spec, b.Spec) })
}

func unixTime(seconds float64) time.Time {
	whole, part := math.Modf(seconds)
	if math.IsNaN(whole) || math.Abs(whole) > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(whole), int64(part*1e9)).UTC()
}

func (j *recordJSON) spec(hash string) (*Spec, error) {
	if j.Spec == nil {
		return nil, fmt.Errorf("the record %s has no spec", shorten(hash))
	}
	return j.Spec.spec(hash)
}

// readRecords reads {"database": {"version": …, "installs": {hash: record}}}
// record by record, since an index of a cache can be large.
func readRecords(r io.Reader, each func(hash string, j *recordJSON) error) (version int, err error) {
	limited := &io.LimitedReader{R: r, N: maxDatabase}
	dec := json.NewDecoder(limited)
	found := false
	err = eachMember(dec, func(key string) error {
		if key != "database" {
			return skip(dec)
		}
		found = true
		return eachMember(dec, func(key string) error {
			switch key {
			case "version":
				version, err = databaseVersion(dec)
				return err
			case "installs":
				return eachMember(dec, func(hash string) error {
					var j recordJSON
					if err := dec.Decode(&j); err != nil {
						return fmt.Errorf("record %s: %w", shorten(hash), notJSON(err))
					}
					return each(hash, &j)
				})
			}
			return skip(dec)
		})
	})
	switch {
	case limited.N <= 0:
		return 0, fmt.Errorf("is larger than %d bytes", maxDatabase)
	case err != nil:
		return 0, err
	case !found || version == 0:
		return 0, fmt.Errorf("this is not a database of Spack: it has no database:version")
	}
	return version, nil
}

func databaseVersion(dec *json.Decoder) (int, error) {
	var text string
	if err := dec.Decode(&text); err != nil {
		return 0, fmt.Errorf("version: %w", err)
	}
	version, err := strconv.Atoi(text)
	if err != nil || version < firstDatabaseVersion || version > lastDatabaseVersion {
		return 0, fmt.Errorf("has version %q of the format; %d to %d are known", shorten(text), firstDatabaseVersion, lastDatabaseVersion)
	}
	return version, nil
}

// eachMember calls visit for each key of an object; visit has to consume the
// value.
func eachMember(dec *json.Decoder, visit func(key string) error) error {
	t, err := dec.Token()
	if err != nil {
		return notJSON(err)
	}
	if t != json.Delim('{') {
		return fmt.Errorf("an object was expected, not %v", t)
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("a key was expected, not %v", t)
		}
		if err := visit(key); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("ends too early")
	}
	return fmt.Errorf("is not JSON: %w", err)
}

// skip consumes a value.
func skip(dec *json.Decoder) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return notJSON(err)
	}
	return nil
}
