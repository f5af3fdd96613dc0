//go:build integration

package differential

import (
	"fmt"
	"maps"
	"slices"
)

// A difference is one between two results. Its field says in what: refused,
// broken, existence, type, mode, owner, link, content, xattrs, names, config,
// or id.
type difference struct {
	field, path  string
	ours, theirs string
}

func (d difference) String() string {
	return fmt.Sprintf("%s of %q\n    pdibuild: %s\n    the other: %s", d.field, d.path, d.ours, d.theirs)
}

// An outcome is what a build ended with: an image, or a refusal.
type outcome struct {
	way     way // of pdibuild
	id      string
	image   *image
	refusal string
	// lost are links in whose place a COPY of a stage has put a directory.
	lost []string
}

// compare lists how the images differ.
func compare(ours, theirs *outcome) []difference {
	if ours.refusal != "" || theirs.refusal != "" {
		if ours.refusal != "" && theirs.refusal != "" {
			return nil
		}
		return []difference{{"refused", "", or(ours.refusal, "built"), or(theirs.refusal, "built")}}
	}
	var all []difference
	for _, text := range ours.image.broken {
		all = append(all, difference{"broken", "", text, ""})
	}
	mine, other := ours.image.files, theirs.image.files
	names := maps.Clone(mine)
	maps.Copy(names, other)
	groups, otherGroups := ours.image.groups(), theirs.image.groups()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := mine[name], other[name]
		if a == nil || b == nil {
			all = append(all, difference{"existence", name, a.String(), b.String()})
			continue
		}
		differences := a.differences(b)
		for _, field := range slices.Sorted(maps.Keys(differences)) {
			all = append(all, difference{field, name, differences[field][0], differences[field][1]})
		}
		if groups[name] != otherGroups[name] {
			all = append(all, difference{"names", name, groups[name], otherGroups[name]})
		}
	}
	for _, key := range []string{"Env", "User", "WorkingDir", "Cmd", "Entrypoint"} {
		if a, b := fmt.Sprint(ours.image.config[key]), fmt.Sprint(theirs.image.config[key]); a != b {
			all = append(all, difference{"config", key, a, b})
		}
	}
	return all
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// differences are the fields in which the files differ.
func (n *node) differences(o *node) map[string][2]string {
	all := map[string][2]string{}
	check := func(field string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			all[field] = [2]string{x, y}
		}
	}
	check("type", string(n.kind)+n.device, string(o.kind)+o.device)
	if len(all) > 0 {
		return all
	}
	check("mode", fmt.Sprintf("%#o", n.mode), fmt.Sprintf("%#o", o.mode))
	check("owner", fmt.Sprint(n.uid, ":", n.gid), fmt.Sprint(o.uid, ":", o.gid))
	check("link", n.link, o.link)
	check("content", fmt.Sprint(n.size, " ", n.sum), fmt.Sprint(o.size, " ", o.sum))
	check("xattrs", attributesText(n.xattrs), attributesText(o.xattrs))
	return all
}

func attributesText(m map[string]string) string { return fmt.Sprintf("%q", m) }

// missing is a file that is not in the image.
const missing = "missing"

func (n *node) String() string {
	if n == nil {
		return missing
	}
	return fmt.Sprintf("type %c mode %#o owner %d:%d size %d -> %q", n.kind, n.mode, n.uid, n.gid, n.size, n.link)
}
