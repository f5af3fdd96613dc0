//go:build integration

package differential

import (
	"archive/tar"
	"slices"
	"strconv"
	"strings"
)

// An intended difference is one that stays, for a reason; docs/containerfile.md
// has the same table.
type intended struct {
	name string
	// is reports whether d is one. The scenario and the outcomes say why.
	is func(s *scenario, d difference, ours, theirs *outcome) bool
}

var intendedDifferences = []intended{
	{"mount points", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "existence" && d.ours == missing && slices.Contains([]string{"dev", "proc", "sys"}, d.path)
	}},
	{"set-id and sticky bits are kept", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return d.field == "mode" && theirs.mode(d)&0o7000 == 0 && theirs.mode(d) == ours.mode(d)&0o777 && s.hasSpecialBits()
	}},
	{"directories can be entered where they can be read", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return d.field == "mode" && ours.isDir(d) && theirs.mode(d)|(theirs.mode(d)&0o444)>>2 == ours.mode(d) && s.any(func(step step) bool {
			return step.mode != "" && strings.TrimRight(step.mode, "0246") == ""
		})
	}},
	{"a new directory has the mode and the attributes of the source", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return (d.field == "mode" && theirs.mode(d) == 0o755 || d.field == "xattrs" && d.theirs == "map[]") && ours.isDir(d) && s.any(func(step step) bool { return step.verb == "copy" })
	}},
	{"every pattern matches something", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && (strings.Contains(d.ours, "nothing in the stage matches") || strings.Contains(d.ours, "no file matches"))
	}},
	{"a file never takes the place of a directory, nor a directory that of a file", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && (strings.Contains(d.ours, " is a directory; ") || strings.Contains(d.ours, "is not a directory"))
	}},
	{"a file step names the file", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && strings.Contains(d.ours, "hint: name the file in it")
	}},
	{"a directory follows the link that the image has in its place", func(_ *scenario, _ difference, _, theirs *outcome) bool {
		return len(theirs.lost) > 0
	}},
	{"Buildah cannot copy attributes with a mode that has set-id or sticky bits", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && strings.Contains(d.theirs, "error during bulk transfer") && s.hasSpecialBits()
	}},
	{"Buildah finds no name that is not UTF-8", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "copier: get: ") && strings.Contains(d.theirs, "no such file or directory")
	}},
	{"a directory has the attributes of the last source alone", func(_ *scenario, d difference, ours, _ *outcome) bool {
		return d.field == "xattrs" && ours.isDir(d) && d.ours == "map[]"
	}},
	{"vfs does not separate the names of a file", func(_ *scenario, d difference, ours, theirs *outcome) bool {
		return theirs.way.driver == "vfs" && d.path != "" && (ours.names(d) != "" || theirs.names(d) != "")
	}},
	{"a pattern with several matches makes a directory", func(s *scenario, d difference, _, _ *outcome) bool {
		return slices.Contains([]string{"existence", "type", "refused"}, d.field) && s.any(func(step step) bool {
			return len(step.sources) == 1 && strings.ContainsAny(step.sources[0], `*?[\\`) && !strings.HasSuffix(step.to, "/") &&
				(d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "expected to only rename 1") || strings.HasPrefix("/"+d.path+"/", step.to+"/"))
		})
	}},
	{"one id cannot keep users apart", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return theirs.way.user == single && s.any(func(step step) bool {
			return step.verb == "user" && strings.HasPrefix(step.text, "1001")
		})
	}},
}

// toMend are differences that are known and not intended.
var toMend = []intended{
	{"TO MEND: owner without a group", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "owner" && s.any(func(step step) bool { return step.owner == "1001" })
	}},
	{"TO MEND: owner of new directories", func(s *scenario, d difference, ours, _ *outcome) bool {
		return d.field == "owner" && ours.isDir(d) && s.any(func(step step) bool { return step.owner != "" })
	}},
	{"TO MEND: exclude", func(s *scenario, d difference, _, _ *outcome) bool {
		return (d.field == "existence" || d.field == "refused") && s.any(func(step step) bool { return len(step.exclude) > 0 })
	}},
	{"TO MEND: vfs compares no contents", func(_ *scenario, d difference, _, theirs *outcome) bool {
		return theirs.way.driver == "vfs" && d.field == "content"
	}},
}

func (s *scenario) any(is func(step) bool) bool {
	return slices.ContainsFunc(s.stages, func(st stage) bool { return slices.ContainsFunc(st.steps, is) })
}

// hasSpecialBits reports whether a mode of the context or of a copy has bits
// that Buildah takes away.
func (s *scenario) hasSpecialBits() bool {
	return slices.ContainsFunc(s.context, func(f file) bool { return f.mode&0o7000 != 0 }) || s.any(func(step step) bool {
		mode, err := strconv.ParseUint(step.mode, 8, 32)
		return err == nil && mode&0o7000 != 0
	})
}

func (o *outcome) mode(d difference) int64 { return o.image.files[d.path].mode }

// names are those of the file, where it has several.
func (o *outcome) names(d difference) string { return o.image.groups()[d.path] }

func (o *outcome) isDir(d difference) bool { return o.image.files[d.path].kind == tar.TypeDir }

// unintended are the differences that are in no entry of the table.
func unintended(s *scenario, all []difference, ours, theirs *outcome) (rest []difference) {
	for _, d := range all {
		found := false
		for _, entry := range slices.Concat(intendedDifferences, toMend) {
			if entry.is(s, d, ours, theirs) {
				found = true
				used.add(entry.name)
				break
			}
		}
		if !found {
			rest = append(rest, d)
		}
	}
	return rest
}
