//go:build integration

package differential

import (
	"archive/tar"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An intended difference is one that stays, for a reason. Its name is the first
// cell of a row of the table in docs/containerfile.md; see table_test.go.
type intended struct {
	name string
	// is reports whether d is one. The scenario and the outcomes say why.
	is func(s *scenario, d difference, ours, theirs *outcome) bool
}

var intendedDifferences = []intended{
	{"`/dev`, `/proc` and `/sys` are in no image", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "existence" && d.ours == missing && slices.Contains([]string{"dev", "proc", "sys"}, d.path)
	}},
	{"set-id and sticky bits stay, those of the context and those of `mode:`", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return d.field == "mode" && theirs.mode(d)&0o7000 == 0 && theirs.mode(d) == ours.mode(d)&0o777 && s.hasSpecialBits()
	}},
	{"such bits and extended attributes go together", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.ours == "built" && s.hasSpecialBits() && s.hasAttributes() &&
			(strings.Contains(d.theirs, "error setting extended attributes on") || strings.Contains(d.theirs, "archive/tar: cannot encode header"))
	}},
	{"with `mode: 0644`, directories can be entered (0755)", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return d.field == "mode" && ours.isDir(d) && theirs.mode(d)|(theirs.mode(d)&0o444)>>2 == ours.mode(d) && s.any(func(step step) bool {
			return step.mode != "" && strings.TrimRight(step.mode, "0246") == ""
		})
	}},
	{"a directory that a copy makes has the mode and the attributes of the one that is copied, as docker has it", func(s *scenario, d difference, ours, theirs *outcome) bool {
		return ours.isDir(d) && s.any(func(step step) bool { return step.verb == "copy" }) &&
			(d.field == "mode" && theirs.mode(d) == 0o755 && s.hasMode(ours.mode(d)) || d.field == "xattrs" && d.theirs == none && d.ours == directoryAttributes)
	}},
	{"each pattern of a copy matches something, else the build ends", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.theirs == "built" && (strings.Contains(d.ours, "nothing in the stage matches") || strings.Contains(d.ours, "no file matches"))
	}},
	{"a pattern with several matches makes a directory of its destination", func(s *scenario, d difference, _, _ *outcome) bool {
		return slices.Contains([]string{"existence", "type", "refused"}, d.field) && s.any(func(step step) bool {
			return len(step.sources) == 1 && strings.ContainsAny(step.sources[0], `*?[\\`) && !strings.HasSuffix(step.to, "/") &&
				(d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "expected to only rename 1") || strings.HasPrefix("/"+d.path+"/", step.to+"/"))
		})
	}},
	{"a file does not take the place of a directory, nor a directory that of a file: the build ends", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.theirs == "built" && otherKind.MatchString(d.ours)
	}},
	{"a directory of the sources follows a link that the image has in its place (`/bin`)", func(_ *scenario, _ difference, _, theirs *outcome) bool {
		return len(theirs.lost) > 0
	}},
	{"of several directories that go to one, the last gives the extended attributes", func(s *scenario, d difference, ours, _ *outcome) bool {
		return d.field == "xattrs" && ours.isDir(d) && d.ours == none && d.theirs == directoryAttributes && s.sourcesAbove(d.path) > 1
	}},
	{"names of one file stay together, also where two sources of a copy bring it", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "names" && s.any(func(step step) bool {
			return step.verb == "copy" && (len(step.sources) > 1 || strings.ContainsAny(step.sources[0], `*?[`))
		})
	}},
	{"`/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are the build's while a command runs, which may copy them", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "content" && slices.Contains([]string{"hosts", "hostname", "resolv.conf"}, path.Base(d.path)) && s.any(func(step step) bool { return step.verb == "run" })
	}},
	{"what a command changes of `/` itself stays", func(s *scenario, d difference, _, theirs *outcome) bool {
		return d.path == "" && slices.Contains([]string{"mode", "owner"}, d.field) && theirs.mode(d) == 0o755 && s.any(func(step step) bool { return step.verb == "run" })
	}},
	{"`workdir` makes its directory, also where no later step needs it", func(s *scenario, d difference, ours, _ *outcome) bool {
		return d.field == "existence" && d.theirs == missing && ours.isDir(d) && slices.ContainsFunc(s.workdirs(), func(dir string) bool {
			return strings.HasPrefix(dir+"/", "/"+d.path+"/")
		})
	}},
	{"names that are not UTF-8 are found by patterns", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "copier: get: ") && strings.Contains(d.theirs, "no such file or directory") && s.hasOddNames()
	}},
	{"a file is copied to a name that is not ASCII", func(s *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "archive/tar: cannot encode header") && s.any(func(step step) bool { return !isASCII(step.to) })
	}},
	{"a destination is a name, whatever characters it has", func(s *scenario, d difference, _, _ *outcome) bool {
		return slices.Contains([]string{"existence", "type", "refused"}, d.field) && s.any(func(step step) bool {
			return strings.ContainsAny(step.to, `*?[\`) && (d.field == "refused" && d.ours == "built" || strings.HasPrefix("/"+d.path+"/", strings.TrimSuffix(step.to, "/")+"/"))
		})
	}},
	{"`!` brings back also what is in directories that a pattern finds", func(s *scenario, d difference, _, _ *outcome) bool {
		return (d.field == "existence" && d.theirs == missing || d.field == "refused" && d.ours == "built" && strings.Contains(d.theirs, "filtered out")) &&
			(slices.ContainsFunc(s.ignore, findsDirectories) || s.any(func(step step) bool { return slices.ContainsFunc(step.exclude, findsDirectories) }))
	}},
	{"a `file` step on a directory ends the build", func(_ *scenario, d difference, _, _ *outcome) bool {
		return d.field == "refused" && d.theirs == "built" && strings.Contains(d.ours, "hint: name the file in it")
	}},
}

// Between users and drivers, docs/containerfile.md has these below its table.
var intendedBetweenWays = []intended{
	{"vfs does not separate the names of a file", func(_ *scenario, d difference, ours, theirs *outcome) bool {
		return theirs.way.driver == "vfs" && d.path != "" && (ours.names(d) != "" || theirs.names(d) != "")
	}},
	{"one id cannot keep users apart", func(s *scenario, _ difference, _, theirs *outcome) bool {
		return theirs.way.user == single && s.any(func(step step) bool {
			return step.verb == "user" && strings.HasPrefix(step.text, "1001")
		})
	}},
}

// otherKind is what a copy says where a file and a directory meet.
var otherKind = regexp.MustCompile(` is a directory(; | that another source makes; ).* would take its place| is not a directory; .* would go to /`)

// The extended attributes of a file, as a difference has them.
var (
	none                = attributesText(nil)
	directoryAttributes = attributesText(map[string]string{"user.differential": "value of directory"})
)

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// findsDirectories reports whether a pattern that brings files back finds them in
// directories by special characters.
func findsDirectories(pattern string) bool {
	return strings.HasPrefix(pattern, "!") && strings.ContainsAny(path.Dir(pattern), `*?[`)
}

func (s *scenario) any(is func(step) bool) bool {
	return slices.ContainsFunc(s.stages, func(st stage) bool { return slices.ContainsFunc(st.steps, is) })
}

// workdirs are the directories that workdir steps name.
func (s *scenario) workdirs() (dirs []string) {
	for _, st := range s.stages {
		dir := "/"
		for _, step := range st.steps {
			if step.verb != "workdir" {
				continue
			}
			if dir = path.Join(dir, step.text); path.IsAbs(step.text) {
				dir = path.Clean(step.text)
			}
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// hasSpecialBits reports whether a mode of the context or of a copy has bits
// that Buildah takes away.
func (s *scenario) hasSpecialBits() bool {
	return slices.ContainsFunc(s.context, func(f file) bool { return f.mode&0o7000 != 0 }) || s.any(func(step step) bool {
		mode, err := strconv.ParseUint(step.mode, 8, 32)
		return err == nil && mode&0o7000 != 0
	})
}

// hasMode reports whether something in the scenario gets that mode.
func (s *scenario) hasMode(mode int64) bool {
	text := strconv.FormatInt(mode, 8)
	return slices.ContainsFunc(s.context, func(f file) bool { return int64(f.mode) == mode }) || s.any(func(step step) bool {
		given, err := strconv.ParseInt(step.mode, 8, 32)
		return err == nil && (given == mode || given|(given&0o444)>>2 == mode) || strings.Contains(strings.Join(step.lines, "\n"), text)
	})
}

func (s *scenario) hasAttributes() bool {
	return slices.ContainsFunc(s.context, func(f file) bool { return f.xattr || f.cap })
}

// hasOddNames reports whether a name is not UTF-8; see quote.
func (s *scenario) hasOddNames() bool {
	return slices.ContainsFunc(s.context, func(f file) bool { return !utf8.ValidString(f.path) }) ||
		s.any(func(step step) bool { return strings.Contains(strings.Join(step.lines, "\n"), `\377`) })
}

// sourcesAbove counts the sources that may have put a directory of the context
// there. A pattern may be several, and so is a stage.
func (s *scenario) sourcesAbove(name string) int {
	n := 0
	s.any(func(step step) bool {
		if step.verb != "copy" || step.from == "" && !strings.HasPrefix("/"+name+"/", strings.TrimSuffix(step.to, "/")+"/") {
			return false
		}
		for _, source := range step.sources {
			n++
			if step.from != "" || strings.ContainsAny(source, `*?[\\`) {
				n++
			}
		}
		return false
	})
	return n
}

func (o *outcome) mode(d difference) int64 { return o.file(d).mode }

// file is the one that differs; an empty one where it is missing, or no image is.
func (o *outcome) file(d difference) *node {
	if o.image == nil || o.image.files[d.path] == nil {
		return &node{}
	}
	return o.image.files[d.path]
}

// names are those of the file, where it has several.
func (o *outcome) names(d difference) string { return o.image.groups()[d.path] }

func (o *outcome) isDir(d difference) bool { return o.file(d).kind == tar.TypeDir }

// unintended are the differences that are in no entry of the table.
func unintended(s *scenario, all []difference, ours, theirs *outcome) (rest []difference) {
	for _, d := range all {
		found := false
		table := intendedDifferences
		if theirs.way != (way{}) {
			table = intendedBetweenWays
		}
		for _, entry := range table {
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
