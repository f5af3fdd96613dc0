package recipe

import (
	"fmt"
	"math"
	"reflect"
	"strconv"

	"gopkg.in/yaml.v3"
)

// spackEnvironment takes the path of an environment or the environment itself.
func (d *decoder) spackEnvironment(n *yaml.Node, v reflect.Value, path string) {
	n = resolve(n)
	d.nodes[path] = n
	switch n.Kind {
	case yaml.ScalarNode:
		d.scalar(n, v.FieldByName("Environment"), path)
	case yaml.MappingNode:
		v.FieldByName("Inline").Set(reflect.ValueOf(d.freeMap(n, path)))
	default:
		d.fail(n, path, "must be the path of a spack.yaml or an environment, not %s", kindOf(n))
	}
}

// free decodes values whose form is Spack's and not ours: maps, lists, texts,
// truth values, int64, float64 and nil. Anything else that YAML 1.1 may see,
// such as a date, stays the text that it is, and so does a number with a
// fraction that would be written differently, such as the version 1.10.
func (d *decoder) free(n *yaml.Node, path string) any {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		return d.freeMap(n, path)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = d.free(item, fmt.Sprintf("%s[%d]", path, i))
		}
		return list
	}
	return d.freeScalar(n, path)
}

func (d *decoder) freeMap(n *yaml.Node, path string) map[string]any {
	m := make(map[string]any, len(n.Content)/2)
	d.keys(n, path, func(key, value *yaml.Node, sub string) { m[key.Value] = d.free(value, sub) })
	return m
}

func (d *decoder) freeScalar(n *yaml.Node, path string) any {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return i
		}
		d.fail(n, path, "%q is too large for a number; quote it if it is a text", n.Value)
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			if strconv.FormatFloat(f, 'g', -1, 64) != n.Value {
				return n.Value
			}
			return f
		}
		d.fail(n, path, "%q is not a number that can be kept; quote it if it is a text", n.Value)
	}
	return n.Value
}
